"""Our own standard input and output as one connection."""

from __future__ import annotations

import sys

import trio


class OneConnection(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """A listener for a connection that is there already: it accepts once, and then never again."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream: trio.abc.HalfCloseableStream | None = stream

    async def accept(self) -> trio.abc.HalfCloseableStream:
        """The connection at the first call; trio.ClosedResourceError afterwards."""
        await trio.lowlevel.checkpoint()
        if self._stream is None:
            raise trio.ClosedResourceError("the only connection was accepted before")
        stream, self._stream = self._stream, None
        return stream

    async def aclose(self) -> None:
        """Close the connection unless it was accepted."""
        if self._stream is not None:
            await self._stream.aclose()


def open_stream() -> trio.abc.HalfCloseableStream:
    """Standard input and output of this process."""
    reading = trio.lowlevel.FdStream(sys.stdin.fileno())
    writing = trio.lowlevel.FdStream(sys.stdout.fileno())
    return trio.StapledStream(writing, reading)
