"""What it costs to carry the tunnel inside a WebSocket, without a proxy between the ends; there is no goal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench import peers, streams
from bench.credentials import Ends
from bench.results import Sample
from bench.rounds import take_turns
from bench.sizes import Sizes

COUNTS = (1, 4)  # one stream, and as many as a state transfer has by default
SHARE = 4  # a WebSocket is slow: the measurement takes this part of the bytes of the other streams


def experiment(count: int) -> str:
    """The name of the measurement with so many streams."""
    return f"{streams.experiment(count)}, with and without a WebSocket"


def measure(sizes: Sizes, ends: Ends) -> Iterator[Sample]:
    """Both counts of streams through the plain tunnel and through one in a WebSocket."""
    for count in COUNTS:
        turns = (peers.PYTUNNEL, peers.WEB_SOCKET)
        move = partial(streams.move, ends, count, sizes.stream_bytes // SHARE)
        yield from take_turns(experiment(count), turns, sizes.stream_rounds, move)
