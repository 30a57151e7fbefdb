"""Reach a TCP port by way of an HTTP proxy: the client's side of CONNECT (RFC 9110, 9.3.6)."""

from __future__ import annotations

import h11
import trio

from pytunnel.transport import tcp
from pytunnel.transport.endpoint import EndpointError, TcpEndpoint, parse_endpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.headers import named
from pytunnel.transport.names import ascii_name
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.sockets import SocketStream

_PIECE = 4096  # bytes


def parse_proxy(text: str) -> TcpEndpoint:
    """The address of `http://HOST:PORT`; raises ValueError that says what is expected, and shows no password."""
    expected = "expected http://HOST:PORT"
    scheme, _, rest = text.partition("://")
    authority = rest.removesuffix("/")
    if "@" in rest:
        raise ValueError(f"{expected} without a user and a password, which can't be used")
    if scheme.lower() != "http" or "/" in authority:
        raise ValueError(f"{expected}; only HTTP proxies, themselves without TLS, can be used")
    try:
        place = parse_endpoint(authority)
    except EndpointError as error:
        raise ValueError(expected) from error
    if not isinstance(place, TcpEndpoint) or not place.host or not place.port:
        raise ValueError(expected)
    return place


async def dial(endpoint: TcpEndpoint, options: SocketOptions) -> SocketStream:
    """Connect to the endpoint, through `options.proxy` if there is one, which then resolves the name.

    The proxy has `options.connect_timeout` to answer. Raises TransportError.
    """
    if options.proxy is None:
        return await tcp.dial(endpoint, options)
    stream = await tcp.dial(options.proxy, options)
    try:
        with trio.fail_after(options.connect_timeout):
            await _ask(stream, options.proxy, endpoint)
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.TooSlowError):
            limit = options.connect_timeout
            raise TransportError(f"the proxy {options.proxy} did not reach {endpoint} within {limit:g} s") from error
        if isinstance(error, trio.BrokenResourceError):
            text = f"the proxy {options.proxy} broke the connection off when it was asked for {endpoint}"
            raise TransportError(text) from error
        raise
    return stream


async def _ask(stream: SocketStream, proxy: TcpEndpoint, endpoint: TcpEndpoint) -> None:
    target = str(TcpEndpoint(ascii_name(endpoint.host), endpoint.port))
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="CONNECT", target=target, headers=[("Host", target)])
    said = (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
    await stream.send_all(said)
    response = await _read_response(connection, stream, f"the proxy {proxy}, asked for {endpoint},")
    if not 200 <= response.status_code < 300:
        wants = "; a proxy that wants a password can't be used" if response.status_code == 407 else ""
        raise TransportError(f"the proxy {proxy} answered {named(response.status_code)} to CONNECT {endpoint}{wants}")
    if connection.trailing_data[0]:
        # No server that we dial speaks first, so this was not what the target said.
        raise TransportError(f"the proxy {proxy} sent more than its answer to CONNECT {endpoint}; is it an HTTP proxy?")


async def _read_response(connection: h11.Connection, stream: SocketStream, who: str) -> h11.Response:
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise TransportError(f"{who} did not answer in HTTP ({error}); is it an HTTP proxy?") from error
        if isinstance(event, h11.Response):
            return event
        if event is h11.NEED_DATA:
            data = await stream.receive_some(_PIECE)
            if not data:
                raise TransportError(f"{who} closed the connection without an answer")
            connection.receive_data(data)
