"""The project's goals for speed and cost, and whether a run of the benchmark met them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench import datadir, handshakes, memory, peers, snapshots, streams
from bench.credentials import KEYS
from bench.peers import Peer
from bench.results import Results


@dataclass(frozen=True, slots=True)
class Goal:
    """pytunnel's figure as a multiple of a peer's: at least `factor` where more is better, else at most."""

    number: int
    experiment: str
    metric: str
    peer: Peer
    factor: float
    more_is_better: bool = False

    @property
    def demand(self) -> str:
        """The goal in words."""
        return f"{'≥' if self.more_is_better else '≤'} {self.factor:g} x {self.peer.name}"

    def measured(self, results: Results) -> float | None:
        """What the run says; None where a side of the pair is missing."""
        return results.ratio(self.experiment, self.metric, peers.PYTUNNEL.name, self.peer.name)

    def is_met(self, ratio: float) -> bool:
        """Whether this quotient is enough."""
        return ratio >= self.factor if self.more_is_better else ratio <= self.factor


def all_goals(results: Results) -> Iterator[Goal]:
    """Every goal that a run can decide."""
    for count in streams.COUNTS:
        experiment = streams.experiment(count)
        yield Goal(1, experiment, streams.THROUGHPUT, peers.SOCAT, 1.8, more_is_better=True)
        yield Goal(1, experiment, streams.THROUGHPUT, peers.HAPROXY, 1.3, more_is_better=True)
        yield Goal(1, experiment, streams.CPU, peers.SOCAT, 0.42)
        yield Goal(1, experiment, streams.CPU, peers.HAPROXY, 0.75)
        yield Goal(1, experiment, streams.CPU, peers.PLAIN, 1.6)
    for kind in KEYS:
        for at_once in handshakes.AT_ONCE:
            name = handshakes.experiment(kind, at_once)
            yield Goal(3, name, handshakes.RATE, peers.SOCAT_NODELAY, 2, more_is_better=True)
    yield Goal(4, memory.EXPERIMENT, memory.LISTENING, peers.SOCAT, 0.6)
    for shape in datadir.shapes(results.sizes["snapshot_bytes"], results.sizes["small_schemas"]):
        yield Goal(5, shape.name, snapshots.SECONDS, peers.SOCAT, 0.65)
        yield Goal(5, shape.name, snapshots.SECONDS, peers.STUNNEL, 0.85)
