"""What was measured, as values and as JSON, and the statistics that are made of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.machine import Machine


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of one run. `round` tells which runs were made in turn; `metric` names its unit."""

    experiment: str
    peer: str
    round: int
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run of the benchmark."""

    machine: Machine
    command: str
    missing: tuple[str, ...]
    sizes: dict[str, int]
    samples: tuple[Sample, ...]

    def encode(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def values(self, experiment: str, peer: str, metric: str) -> dict[int, float]:
        """The figures of each round; empty where nothing was measured."""
        return {
            sample.round: sample.value
            for sample in self.samples
            if (sample.experiment, sample.peer, sample.metric) == (experiment, peer, metric)
        }

    def median(self, experiment: str, peer: str, metric: str) -> float | None:
        """The median of all rounds."""
        values = self.values(experiment, peer, metric)
        return statistics.median(values.values()) if values else None

    def ratio(self, experiment: str, metric: str, own: str, other: str) -> float | None:
        """The median of the quotients of each round's pair: what shakes the machine shakes both of a pair."""
        ours, theirs = self.values(experiment, own, metric), self.values(experiment, other, metric)
        quotients = [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys())]
        return statistics.median(quotients) if quotients else None

    def peers(self, experiment: str) -> Sequence[str]:
        """Who took part, in the order of their first run."""
        return tuple(dict.fromkeys(sample.peer for sample in self.samples if sample.experiment == experiment))
