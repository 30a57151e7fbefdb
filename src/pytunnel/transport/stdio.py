"""Our own standard input and output as one connection."""

from __future__ import annotations

import sys
from typing import TextIO

import trio

from pytunnel.transport.errors import TransportError


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
    """Standard input and output of this process; raises TransportError where it was started without one of them."""
    reading = _descriptor(sys.stdin, "standard input")
    writing = _descriptor(sys.stdout, "standard output")
    return trio.StapledStream(trio.lowlevel.FdStream(writing), trio.lowlevel.FdStream(reading))


def _descriptor(file: TextIO | None, what: str) -> int:
    if file is None:
        raise TransportError(f"stdio: can't be used: {what} is closed; open it, or redirect it from or to a file")
    return file.fileno()
