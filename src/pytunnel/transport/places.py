"""Open any endpoint: one function to listen, one to dial, whatever kind of place it is."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from pytunnel.endpoint import Endpoint, ExecEndpoint, StdioEndpoint, TcpEndpoint, UnixEndpoint
from pytunnel.transport import process, stdio, tcp, unix
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.sockets import SocketStream

Stream = trio.abc.Stream
Listener = trio.abc.Listener[trio.abc.Stream]

_UNIX_BACKLOG = 1024


async def open_listeners(endpoint: Endpoint, options: SocketOptions) -> Sequence[Listener]:
    """Listen at `endpoint`; raises TransportError. `exec:` and `stdio:` are one connection that is there already."""
    match endpoint:
        case TcpEndpoint():
            return await tcp.open_listeners(endpoint, options)
        case UnixEndpoint():
            return [await unix.open_listener(endpoint, options.backlog or _UNIX_BACKLOG)]
        case ExecEndpoint():
            return [stdio.OneConnection(await process.spawn(endpoint.argv))]
        case StdioEndpoint():
            return [stdio.OneConnection(stdio.open_stream())]


async def dial(endpoint: Endpoint, options: SocketOptions) -> Stream:
    """Connect to `endpoint`; raises TransportError."""
    try:
        match endpoint:
            case TcpEndpoint():
                return await tcp.dial(endpoint, options)
            case UnixEndpoint():
                return await unix.dial(endpoint)
            case ExecEndpoint():
                return await process.spawn(endpoint.argv)
            case StdioEndpoint():
                return stdio.open_stream()
    except OSError as error:  # this process has no file descriptor left, for example: no fault of the place
        raise TransportError(f"{endpoint} can't be reached: {error.strerror}") from error


async def abort(stream: Stream) -> None:
    """Close at once, and let the other end see an error where its kind of connection can show one."""
    if isinstance(stream, SocketStream) and stream.socket.family != trio.socket.AF_UNIX:
        tcp.reset(stream)
    await trio.aclose_forcefully(stream)


def peer_of(stream: Stream) -> str:
    """Who is at the other end, for logs."""
    if isinstance(stream, SocketStream):
        return tcp.peer_of(stream)
    if isinstance(stream, process.ProcessStream):
        return f"process {stream.process.pid}"
    return "standard input"


def adjust(stream: Stream, options: SocketOptions) -> None:
    """Set on an accepted stream what it doesn't inherit from its listener."""
    if isinstance(stream, SocketStream):
        tcp.set_no_delay(stream, options)


def is_allowed(stream: Stream, options: SocketOptions) -> bool:
    """Whether the options let this connection's remote address in; only TCP has one."""
    if isinstance(stream, SocketStream) and stream.socket.family != trio.socket.AF_UNIX:
        return tcp.is_allowed(stream, options)
    return True
