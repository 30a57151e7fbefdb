"""What the log says of a transfer while it runs and when it is over: bytes, rate, time left."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from pytunnel.sst.manifest import Amount
from pytunnel.tunnel.connection import Connection

log = logging.getLogger(__name__)

_INTERVAL = 5.0  # seconds between two lines


@dataclass(slots=True)
class Progress:
    """The connections of one transfer. `total` is None while it isn't known."""

    verb: str
    total: Amount | None = None
    connections: list[Connection] = field(default_factory=list)
    began: float = field(default_factory=trio.current_time)

    def observe(self, connection: Connection) -> None:
        """Count a connection's bytes from now on."""
        if connection not in self.connections:
            self.connections.append(connection)

    @property
    def moved(self) -> int:
        """Bytes so far, in the direction of the data."""
        return sum(connection.traffic.outward for connection in self.connections)

    def closing_line(self) -> str:
        """One sentence about the whole transfer."""
        seconds = max(trio.current_time() - self.began, 0.001)
        most = max(self.connections, key=lambda connection: connection.traffic.outward, default=None)
        session = most.session if most is not None else None
        files = f" in {self.total.files} files" if self.total is not None else ""
        secured = f"; {session.version} {session.cipher} with {session.peer_name}" if session is not None else ""
        return (
            f"{self.verb} {size(self.moved)} ({self.moved} bytes){files} in {seconds:.1f} s, "
            f"{size(self.moved / seconds)}/s{secured}"
        )


async def report(progress: Progress, tell: Callable[[str], None] = log.info) -> None:
    """Tell how far the transfer is, every few seconds, until cancelled."""
    before, moment = progress.moved, trio.current_time()
    while True:
        await trio.sleep(_INTERVAL)
        moved, now = progress.moved, trio.current_time()
        if moved:
            tell(describe(progress.verb, moved, progress.total, (moved - before) / (now - moment)))
        before, moment = moved, now


def describe(verb: str, moved: int, total: Amount | None, rate: float) -> str:
    """One line of progress; `moved` in bytes, `rate` in bytes a second.

    rsync's own words travel too, so a little more may have moved than there was: then it says 100 %.
    """
    if total is None or not total.bytes:
        return f"{verb} {size(moved)} so far, {size(rate)}/s"
    share = min(moved / total.bytes, 1.0)
    left = f"{max(total.bytes - moved, 0) / rate:.0f} s left" if rate > 0 else "standing still"
    return f"{verb} {size(moved)} of {size(total.bytes)} ({share:.0%}), {size(rate)}/s, {left}"


def size(count: float) -> str:
    """Bytes for people: `3.0 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
