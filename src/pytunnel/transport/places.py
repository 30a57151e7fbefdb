"""Open any endpoint: one function to listen, one to dial, whatever kind of place it is.

WebSockets are loaded where they are used, at the start: few use them, and their libraries take a tenth of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from pytunnel.errors import PytunnelError
from pytunnel.transport import passed, process, proxy, stdio, tcp, unix
from pytunnel.transport.carried import CarriedListener, CarriedStream
from pytunnel.transport.endpoint import (
    Endpoint,
    ExecEndpoint,
    StdioEndpoint,
    SystemdEndpoint,
    TcpEndpoint,
    UnixEndpoint,
    WebSocketEndpoint,
)
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.sockets import SocketListener, SocketStream
from pytunnel.transport.unix import UnixListener

Stream = trio.abc.Stream
Listener = trio.abc.Listener[trio.abc.Stream]

_UNIX_BACKLOG = 1024


async def open_listeners(endpoint: Endpoint, options: SocketOptions) -> Sequence[Listener]:
    """Listen at `endpoint`; raises TransportError. `exec:` and `stdio:` are one connection that is there already."""
    match endpoint:
        case TcpEndpoint():
            return await tcp.open_listeners(endpoint, options)
        case UnixEndpoint():
            return [unix.open_listener(endpoint, options.backlog or _UNIX_BACKLOG)]
        case ExecEndpoint():
            return [stdio.OneConnection(await process.spawn(endpoint.argv, must_succeed=True))]
        case StdioEndpoint():
            return [stdio.OneConnection(stdio.open_stream())]
        case WebSocketEndpoint():
            from pytunnel.transport import web

            return await web.open_listeners(endpoint, options)
        case SystemdEndpoint():
            return passed.open_listeners(endpoint)


def adopt(endpoint: Endpoint, descriptors: Iterable[int], options: SocketOptions) -> Sequence[Listener]:
    """Listeners at `endpoint` from listening sockets that another process of ours opened there, and closes for good."""
    listeners = [SocketListener(trio.socket.socket(fileno=descriptor)) for descriptor in descriptors]
    if isinstance(endpoint, WebSocketEndpoint):
        from pytunnel.transport import web

        return web.above(listeners, endpoint, options)
    return listeners


def descriptors_of(listeners: Iterable[Listener]) -> list[int]:
    """The listening sockets, for a process that will `adopt` them."""
    kinds = (SocketListener, CarriedListener, UnixListener)
    return [listener.socket.fileno() for listener in listeners if isinstance(listener, kinds)]


async def dial(endpoint: Endpoint, options: SocketOptions) -> Stream:
    """Connect to `endpoint`; raises TransportError."""
    try:
        match endpoint:
            case TcpEndpoint():
                return await proxy.dial(endpoint, options)
            case UnixEndpoint():
                return await unix.dial(endpoint, options.connect_timeout)
            case ExecEndpoint():
                return await process.spawn(endpoint.argv, must_succeed=True)
            case StdioEndpoint():
                return stdio.open_stream()
            case WebSocketEndpoint():
                from pytunnel.transport import web

                return await web.dial(endpoint, options)
            case SystemdEndpoint():
                raise TransportError(f"{endpoint} is a place to accept connections, none to carry them to")
    except OSError as error:  # this process has no file descriptor left, for example: no fault of the place
        raise TransportError(f"{endpoint} can't be reached: {error.strerror}") from error


def bound_at(listener: Listener) -> TcpEndpoint | None:
    """The address and port that a listener of TCP really has; None for any other."""
    if not isinstance(listener, (SocketListener, CarriedListener)):
        return None
    if listener.socket.family == trio.socket.AF_UNIX:
        return None
    host, port, *_ = listener.socket.getsockname()
    return TcpEndpoint(str(host), int(port))


@asynccontextmanager
async def kept_alive(*streams: Stream) -> AsyncIterator[None]:
    """During the block, do what a stream needs besides being read and written: a WebSocket, pings and their answers."""
    carried = [stream for stream in streams if isinstance(stream, CarriedStream)]
    if not carried:
        yield
        return
    failure: PytunnelError | None = None
    async with trio.open_nursery() as nursery:
        for stream in carried:
            nursery.start_soon(stream.keep_alive)
        try:
            yield
        except PytunnelError as error:
            failure = error  # raised here, it would come out of the nursery as a group
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def check_dialling(endpoint: Endpoint, options: SocketOptions) -> None:
    """Raise TransportError where dialling is known to fail before it is tried."""
    if isinstance(endpoint, WebSocketEndpoint):
        from pytunnel.transport import web

        web.check_dialling(endpoint, options)


async def abort(stream: Stream) -> None:
    """Close, and let the other end see no end of file where its kind of connection allows that: TCP is reset, a program
    ended first. A Unix socket has nothing but an end of file, unless we leave bytes of the other end unread.
    """
    if isinstance(stream, process.ProcessStream):
        await stream.abort()
        return
    connected = _tcp_socket(stream)
    if connected is not None:
        tcp.reset(connected)
    await trio.aclose_forcefully(stream)


async def confirm_end(stream: trio.abc.ReceiveStream) -> None:
    """After a stream's end of file: raise TransportError where it is none, but that of a program that failed."""
    if isinstance(stream, process.ProcessStream):
        await stream.confirm_end()


def peer_of(stream: Stream) -> str:
    """Who is at the other end, for logs."""
    if isinstance(stream, process.ProcessStream):
        return f"process {stream.process.pid}"
    connected = stream.carrier if isinstance(stream, CarriedStream) else stream
    return tcp.peer_of(connected) if isinstance(connected, SocketStream) else "standard input"


def adjust(stream: Stream, options: SocketOptions) -> None:
    """Set on an accepted stream what it doesn't inherit from its listener."""
    connected = _tcp_socket(stream)
    if connected is not None:
        tcp.adjust(connected, options)


def is_allowed(stream: Stream, options: SocketOptions) -> bool:
    """Whether the options let this connection's remote address in; only TCP has one."""
    connected = _tcp_socket(stream)
    return connected is None or tcp.is_allowed(connected, options)


def _tcp_socket(stream: Stream) -> SocketStream | None:
    """The TCP connection that a stream is, or is carried in."""
    connected = stream.carrier if isinstance(stream, CarriedStream) else stream
    if isinstance(connected, SocketStream) and connected.socket.family != trio.socket.AF_UNIX:
        return connected
    return None


def socket_to_watch(stream: Stream) -> SocketStream | None:
    """The socket that shows whether the other end of an accepted stream has gone, or None."""
    return _socket_of(stream.carrier if isinstance(stream, CarriedStream) else stream)


def socket_to_read(stream: trio.abc.ReceiveStream) -> SocketStream | None:
    """The socket that a plain stream's bytes come from as they are, or None."""
    return _socket_of(stream.receive_stream if isinstance(stream, trio.StapledStream) else stream)


def socket_to_write(stream: trio.abc.SendStream) -> SocketStream | None:
    """The socket that a plain stream's bytes go to as they are, or None."""
    return _socket_of(stream.send_stream if isinstance(stream, trio.StapledStream) else stream)


def _socket_of(stream: object) -> SocketStream | None:
    if isinstance(stream, process.ProcessStream):
        return stream.connection
    return stream if isinstance(stream, SocketStream) else None
