"""Make events of the log of what other programs say on standard error, where every line there has to be one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trio

from pytunnel.system import logs
from pytunnel.system.ration import LineRation

log = logging.getLogger(__name__)

_STANDARD_ERROR = 2
_PIECE = 4096  # bytes of one turn; a longer line becomes several
_PIPE = 65536  # bytes that a pipe holds, pipe(7)
_MOST = 600  # lines in one period of the ration
_REST = 0.01  # seconds between turns while lines are left out: who writes faster than that has to wait


class Overheard:
    """What comes to standard error from others, by the pipe that is there instead of it."""

    def __init__(self, reading: int) -> None:
        self._reading = reading
        self._unfinished = b""
        self._ration = LineRation(_MOST, "lines were said by programs", "lines")

    async def follow(self) -> None:
        """Log each line as it comes, as far as the ration goes, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ration.report)
            while True:
                await trio.lowlevel.wait_readable(self._reading)
                if not self._take():
                    await trio.sleep(_REST)

    def finish(self) -> None:
        """Log what has come until now, and how much was left out."""
        with suppress(BlockingIOError):
            for _ in range(_PIPE // _PIECE):  # and no more: somebody may go on writing
                self._take()
        self._log([self._unfinished])
        self._ration.summarise()

    def _take(self) -> bool:
        """Log one piece of what has come; False if a line of it was left out. Raises BlockingIOError without any."""
        *lines, self._unfinished = (self._unfinished + os.read(self._reading, _PIECE)).split(b"\n")
        if len(self._unfinished) >= _PIECE:
            lines.append(self._unfinished)
            self._unfinished = b""
        return self._log(lines)

    def _log(self, lines: list[bytes]) -> bool:
        named = [line for line in lines if line and self._ration.take()]
        for line in named:
            log.info("a program says: %s", line.decode(errors="backslashreplace"))
        return len(named) == len(list(filter(None, lines)))


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
            heard.finish()
            os.close(reading)
