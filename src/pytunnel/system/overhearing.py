"""Make events of the log of what other programs say on standard error, where every line there has to be one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from pytunnel.system import logs

log = logging.getLogger(__name__)

_STANDARD_ERROR = 2
_PIECE = 64 * 1024  # bytes; a longer line becomes several


class Overheard:
    """What comes to standard error from others, by the pipe that is there instead of it."""

    def __init__(self, reading: int) -> None:
        self._reading = reading
        self._unfinished = b""

    async def follow(self) -> None:
        """Log each line as it comes, until cancelled."""
        while self.take():
            await trio.lowlevel.wait_readable(self._reading)

    def take(self) -> bool:
        """Log what has come; False if nothing more can."""
        try:
            while data := os.read(self._reading, _PIECE):
                *lines, self._unfinished = (self._unfinished + data).split(b"\n")
                _log(lines)
                if len(self._unfinished) >= _PIECE:
                    self.flush()
        except BlockingIOError:
            return True
        return False

    def flush(self) -> None:
        """Log what has no line end yet."""
        _log([self._unfinished])
        self._unfinished = b""


@contextmanager
def overheard() -> Iterator[Overheard]:
    """During the block our own log goes where it went, and what else comes to standard error is for the yielded value.

    The programs that were started in the block should have ended with it: at its end the last of their words is logged.
    """
    original = os.dup(_STANDARD_ERROR)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.dup2(writing, _STANDARD_ERROR)
    os.close(writing)
    heard = Overheard(reading)
    with os.fdopen(original, "w", encoding="utf-8", errors="backslashreplace") as stream, logs.written_to(stream):
        try:
            yield heard
        finally:
            os.dup2(original, _STANDARD_ERROR)
            heard.take()
            heard.flush()
            os.close(reading)


def _log(lines: list[bytes]) -> None:
    for line in filter(None, lines):
        log.info("a program says: %s", line.decode(errors="backslashreplace"))
