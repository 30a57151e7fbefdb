"""A connected socket as a stream that asks the scheduler only when there is something to wait for.

trio's own SocketStream gives way to other tasks at each call, which costs as much as encrypting 64 KiB, and keeps the
kernel's queue of unsent bytes short, which costs wake-ups. Under load the next bytes are nearly always there: this
one tries first, waits only when it must, and gives way every few turns.
"""

from __future__ import annotations

import os
import socket

import trio

TURNS = 8
"""Calls in a row that may go on without giving way to other tasks: about two milliseconds of work."""

_MOST = 192 * 1024  # bytes


class SocketStream(trio.abc.HalfCloseableStream):
    """A connected stream socket, which it owns."""

    def __init__(self, connected: trio.socket.SocketType) -> None:
        self.socket = connected
        self._turns = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes, b"" at the end; raises trio.BrokenResourceError or trio.ClosedResourceError."""
        await self._give_way()
        while True:
            try:
                return os.read(self.descriptor(), max_bytes or _MOST)
            except BlockingIOError:
                await self.wait_readable()
            except OSError as error:
                raise _broken(error) from error

    async def wait_readable(self) -> None:
        """Wait until `read_now` has something to tell."""
        await trio.lowlevel.wait_readable(self.descriptor())

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything; raises trio.BrokenResourceError or trio.ClosedResourceError."""
        await self._give_way()
        rest = write_now(self.descriptor(), memoryview(data))
        while rest:
            await trio.lowlevel.wait_writable(self.descriptor())
            rest = write_now(self.descriptor(), rest)

    async def send_eof(self) -> None:
        """Let the peer see the end of what we send."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.descriptor()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _broken(error) from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes more."""
        await trio.lowlevel.wait_writable(self.descriptor())

    async def aclose(self) -> None:
        """Close the socket."""
        self.socket.close()
        await trio.lowlevel.checkpoint()

    def descriptor(self) -> int:
        """Its file descriptor, which is valid until the next await; raises trio.ClosedResourceError."""
        descriptor = self.socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError("the socket was closed before")
        return descriptor

    async def _give_way(self) -> None:
        self._turns += 1
        if self._turns % TURNS:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()


def read_now(descriptor: int, room: memoryview) -> int | None:
    """Read from a socket into `room`: how many bytes, 0 at the end, None when nothing is there yet.

    Raises trio.BrokenResourceError.
    """
    try:
        return os.readv(descriptor, (room,))
    except BlockingIOError:
        return None
    except OSError as error:
        raise _broken(error) from error


def write_now(descriptor: int, data: memoryview) -> memoryview:
    """Send what a socket takes at once, and return the rest; raises trio.BrokenResourceError."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BlockingIOError:
        return data
    except OSError as error:
        raise _broken(error) from error
    return data


class SocketListener(trio.abc.Listener[SocketStream]):
    """A listening socket, which it owns."""

    def __init__(self, listening: trio.socket.SocketType) -> None:
        self.socket = listening
        self._listener = trio.SocketListener(listening)

    async def accept(self) -> SocketStream:
        """Wait for the next connection; trio's listener knows which errors of accept(2) are none of ours."""
        accepted = (await self._listener.accept()).socket
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)  # trio sets it; 0 is the default
        return SocketStream(accepted)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()


def _broken(error: OSError) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(f"socket connection broken: {error}")
