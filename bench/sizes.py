"""How much each measurement moves, and how often."""

from __future__ import annotations

from dataclasses import dataclass, replace

GIGABYTE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes and counts for one round of each measurement, and the number of rounds."""

    stream_bytes: int
    stream_rounds: int
    handshakes: int
    handshake_rounds: int
    idle_connections: int
    memory_rounds: int
    snapshot_bytes: int
    small_schemas: int
    snapshot_rounds: int
    starts: int
    far_bytes: int
    far_rounds: int

    def with_gigabytes(self, gigabytes: float) -> Sizes:
        """The same, with this much for each run of a stream or a snapshot."""
        amount = int(gigabytes * GIGABYTE)
        return replace(self, stream_bytes=amount, snapshot_bytes=amount)


FULL = Sizes(
    stream_bytes=GIGABYTE,
    stream_rounds=5,
    handshakes=320,
    handshake_rounds=5,
    idle_connections=256,
    memory_rounds=3,
    snapshot_bytes=3 * GIGABYTE,
    small_schemas=400,
    snapshot_rounds=3,
    starts=9,
    far_bytes=150_000_000,
    far_rounds=2,
)
QUICK = Sizes(
    stream_bytes=GIGABYTE // 5,
    stream_rounds=1,
    handshakes=64,
    handshake_rounds=1,
    idle_connections=32,
    memory_rounds=1,
    snapshot_bytes=GIGABYTE // 10,
    small_schemas=40,
    snapshot_rounds=1,
    starts=2,
    far_bytes=4_000_000,
    far_rounds=1,
)
