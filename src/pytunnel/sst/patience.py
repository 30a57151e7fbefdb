"""How long a donor goes on with a stream that fails: which failures are worth another try, the waits, the limits.

All of it happens while the donor's tables are locked, so it ends: an operator rather has a transfer that fails after
two minutes than a donor that stands still for an hour. Values only; pytunnel.sst.donation does the waiting.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pytunnel.tls.errors import Incompatible, PeerRejected
from pytunnel.transport.errors import TransportError

MUTE_LIMIT = 90.0
"""Seconds without a byte from one side, then a connection counts as cut: three times what rsync may be silent for."""

NETWORK_LIMIT = 120.0
"""Seconds for which the tries of one stream may fail one after another without progress."""

PROGRAM_LIMIT = 4.0
"""The same where the other node answers, but nobody listens there any more, or where an rsync has been ended."""

ABSENCE_LIMIT = 180.0
"""Seconds without any connection, then a joiner takes its donor for gone; longer than a donor goes on trying."""

SETTLE_LIMIT = 20.0
"""Seconds without any connection, then a joiner whose last connection was cut right after the state file takes it."""

WAITS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each next try; the last one for all that follow."""

_PROGRESS = 16 * 1024 * 1024  # bytes: more than buffers on the way can hold, so some of it has arrived


class Trouble(enum.Enum):
    """Kinds of failures: between the nodes, or of a program on one of them, or such that each try ends likewise."""

    NETWORK = "network"
    PROGRAM = "program"
    LASTING = "lasting"


@dataclass(slots=True)
class Tries:
    """The tries of one stream, and since when none of them has moved anything."""

    count: int = 0
    since: float = 0.0

    def wait_after(self, trouble: Trouble, moved: int, now: float) -> float | None:
        """Seconds to wait before the next try, None to give up; `moved` is in bytes, `now` in seconds."""
        if self.count == 0 or moved >= _PROGRESS:
            self.count, self.since = 0, now
        self.count += 1
        wait = WAITS[min(self.count, len(WAITS)) - 1]
        limit = {Trouble.NETWORK: NETWORK_LIMIT, Trouble.PROGRAM: PROGRAM_LIMIT}.get(trouble, 0.0)
        return wait if now + wait - self.since <= limit else None


def trouble_of(error: BaseException | None) -> Trouble:
    """What kind of failure ended a connection, told by the error and by what it came from."""
    while error is not None:
        if isinstance(error, PeerRejected | Incompatible):
            return Trouble.LASTING
        if isinstance(error, TransportError) and error.refused:
            return Trouble.PROGRAM
        error = error.__cause__
    return Trouble.NETWORK
