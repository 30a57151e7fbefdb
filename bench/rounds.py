"""Peers measured in turn, round after round, each time another one first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.peers import Peer
from bench.results import Sample

Measurement = Callable[[Peer], Mapping[str, float]]


def take_turns(experiment: str, peers: Sequence[Peer], rounds: int, measure: Measurement) -> Iterator[Sample]:
    """The samples of `rounds` rounds in which each peer has one turn; `measure` gives a figure for each metric."""
    for number in range(rounds):
        start = number % len(peers)
        for peer in (*peers[start:], *peers[:start]):
            figures = measure(peer)
            show(experiment, peer.name, number, figures)
            for metric, value in figures.items():
                yield Sample(experiment, peer.name, number, metric, value)


def show(experiment: str, name: str, number: int, figures: Mapping[str, float]) -> None:
    """Tell who watches what one run of `name` gave."""
    words = ", ".join(f"{value:.3g} {metric}" for metric, value in figures.items())
    print(f"{experiment}, round {number + 1}, {name}: {words}", file=sys.stderr)
