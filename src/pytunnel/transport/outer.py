"""The outer TLS of wss://: that of whoever serves the URL, a proxy or an ingress, and not the node's.

It is the usual TLS of the web, by the standard library: the server shows a certificate for its name, from a CA of this
system or of the given file; we show none. There is no way to leave that out. The node itself proves who it is in the
mutual TLS inside.
"""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

import trio

from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.names import ascii_name

_OTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH, which ssl has no names for


def make_context(ca: Path | None) -> ssl.SSLContext:
    """A context that trusts the system's CAs, or instead those of a PEM file; raises TransportError.

    A file that was changed since is read again.
    """
    file = ca or ssl.get_default_verify_paths().cafile
    return _make_context(ca, _version_of(file) if file is not None else None)


def _version_of(file: Path | str) -> tuple[int, ...] | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None  # reading it will say why
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# Reading the system's CAs takes longer than all the rest of a connection: it is done once for many.
@functools.lru_cache(maxsize=8)
def _make_context(ca: Path | None, version: tuple[int, ...] | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) and error.strerror else "no PEM certificate"
        raise TransportError(f"--outer-ca {ca} can't be read: {reason}; expected a PEM file of certificates") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False  # RFC 9525: on the web a common name is no name any more
    context.set_alpn_protocols(["http/1.1"])  # a WebSocket needs it: a server that prefers HTTP/2 would speak that
    return context


async def secure(transport: trio.abc.Stream, server: TcpEndpoint, context: ssl.SSLContext) -> trio.abc.Stream:
    """TLS over `transport` with a server whose certificate carries the endpoint's host; raises TransportError."""
    stream = trio.SSLStream(transport, context, server_hostname=ascii_name(server.host), https_compatible=True)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        raise TransportError(_explain(server, error.__cause__)) from error
    return stream


def _explain(server: TcpEndpoint, cause: BaseException | None) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code in _OTHER_NAME:
            advice = "write a name that its certificate carries in the URL"
        else:
            advice = "if its CA is your own, give --outer-ca (outer-ca in [sst])"
        reason = cause.verify_message.removesuffix(".")
        return f"{server} presented a certificate that can't be trusted: {reason}; {advice}"
    if isinstance(cause, ssl.SSLError):
        return f"the outer TLS with {server} failed: {cause.reason or cause}; is it the port of a wss:// server?"
    return f"{server} broke the connection off during the outer TLS handshake; is it the port of a wss:// server?"
