"""A ration of log lines that others can cause, as many as they like: strangers' connections, programs that complain.

The first few of each minute are worth a line; of the others the log holds how many there were.
"""

from __future__ import annotations

import logging

import trio

log = logging.getLogger(__name__)

PERIOD = 60.0
"""Seconds; a period begins with its first line."""


class LineRation:
    """Decides which events are written to the log, `lines` of them in one period, and counts the others.

    `others` says in the summary what they are, and `field` names their number for machines.
    """

    def __init__(self, lines: int, others: str, field: str) -> None:
        self._most = lines
        self._others = others
        self._field = field
        self._ends = -float("inf")
        self._lines = 0
        self._left_out = 0
        self._exhausted = trio.Event()

    def take(self) -> bool:
        """Whether one more line may be written; if not, it is counted, and the next summary tells of it."""
        if trio.current_time() >= self._ends:
            self.summarise()
            self._ends = trio.current_time() + PERIOD
            self._lines = 0
        if self._lines < self._most:
            self._lines += 1
            return True
        self._left_out += 1
        self._exhausted.set()
        return False

    async def report(self) -> None:
        """Write the summary of each period in which lines were left out, when it is over; goes on until cancelled."""
        while True:
            await self._exhausted.wait()
            await trio.sleep_until(self._ends)
            self.summarise()

    def summarise(self) -> None:
        """Write how many lines were left out since the last summary; nothing if none were."""
        if not self._left_out:
            return  # whoever waits for the first goes on waiting
        log.warning(
            "%d more %s; only the first %d in %g s are named",
            self._left_out,
            self._others,
            self._most,
            PERIOD,
            extra={"fields": {self._field: self._left_out}},
        )
        self._left_out = 0
        self._exhausted = trio.Event()
