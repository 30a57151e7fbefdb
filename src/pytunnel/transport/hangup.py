"""Notice that the other end of a connection has gone, without reading what it said before."""

from __future__ import annotations

import select

import trio

from pytunnel.transport.sockets import SocketStream


async def wait_ended(connected: SocketStream) -> None:
    """Wait until the other end says nothing more: it has gone, or only said end of file, which TCP can't tell apart.

    Raises OSError where the system has no file descriptor left for it, trio.ClosedResourceError.
    """
    await _wait(connected, select.EPOLLRDHUP)


async def wait_gone(connected: SocketStream) -> None:
    """Wait until the other end takes nothing more either: a reset, or a Unix socket that is closed.

    Raises OSError where the system has no file descriptor left for it, trio.ClosedResourceError.
    """
    await _wait(connected, 0)


async def _wait(connected: SocketStream, events: int) -> None:
    """EPOLLERR and EPOLLHUP are always among the events; trio itself can wait for bytes only."""
    descriptor = connected.socket.fileno()
    if descriptor < 0:
        raise trio.ClosedResourceError("the socket was closed before, by us")
    with select.epoll() as watch:
        watch.register(descriptor, events)
        await trio.lowlevel.wait_readable(watch.fileno())
