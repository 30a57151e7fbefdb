"""Goal 1: how fast one stream and sixteen go through each tunnel, and what that costs of the processor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from bench import peers, running, source
from bench.credentials import Ends
from bench.peers import Peer
from bench.results import Sample
from bench.rounds import take_turns
from bench.sizes import GIGABYTE, Sizes

COUNTS = (1, 16)
THROUGHPUT, CPU = "GB/s", "CPU s/GB"
_WARM_UP = 32_000_000  # bytes


def experiment(count: int) -> str:
    """The name of the measurement with so many streams."""
    return "one stream" if count == 1 else f"{count} streams"


def measure(sizes: Sizes, ends: Ends) -> Iterator[Sample]:
    """Both counts of streams through every tunnel that is installed."""
    for count in COUNTS:
        turns = peers.installed(*peers.ALL, *([peers.WORKERS] if count > 1 else []))
        yield from take_turns(
            experiment(count), turns, sizes.stream_rounds, partial(move, ends, count, sizes.stream_bytes)
        )


def move(ends: Ends, count: int, total: int, peer: Peer) -> Mapping[str, float]:
    """One run of `total` bytes, checked; raises BenchError when a byte is lost or changed."""
    with running.sink() as port, running.tunnel_to(port, peer, ends) as tunnel:
        source.send_streams(tunnel.port, count, min(total, _WARM_UP))
        before = tunnel.cpu_seconds()
        seconds = source.send_streams(tunnel.port, count, total)
        used = tunnel.cpu_seconds() - before
    return {THROUGHPUT: total / GIGABYTE / seconds, CPU: used / (total / GIGABYTE)}
