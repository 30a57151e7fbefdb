"""Where a process tells how it is: `HOST:PORT`, `:PORT` for programs of this host alone, or `unix:PATH`."""

from __future__ import annotations

from pytunnel.transport.endpoint import EndpointError, TcpEndpoint, UnixEndpoint, parse_endpoint

StatusEndpoint = TcpEndpoint | UnixEndpoint

LOOPBACK = "127.0.0.1"
"""What an address without a host means: who wants others to look has to say so."""

STATUS_SOCKET = "wsrep_sst_status.sock"
"""In a datadir, that of the state transfer that runs there: of mode 0600, never sent, and deleted by no other."""


def parse_status_address(text: str) -> StatusEndpoint:
    """Understand the address as a person writes it; raises EndpointError."""
    endpoint = parse_endpoint(text)
    match endpoint:
        case TcpEndpoint(host=""):
            return TcpEndpoint(LOOPBACK, endpoint.port)
        case TcpEndpoint() | UnixEndpoint():
            return endpoint
        case _:
            raise EndpointError(f"{text!r} is no address for status; expected HOST:PORT, :PORT or unix:PATH")
