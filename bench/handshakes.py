"""Goal 3: how many new connections a second each tunnel makes, each with a full mutual handshake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from bench import peers, running, source
from bench.credentials import KEYS, Ends, make_ends
from bench.peers import Peer
from bench.results import Sample
from bench.rounds import take_turns
from bench.sizes import Sizes

AT_ONCE = (1, 32)
RATE = "connections/s"
_WARM_UP = 8  # connections


def experiment(kind: str, at_once: int) -> str:
    """The name of the measurement with keys of this kind."""
    return f"{kind.upper()}, {'one after the other' if at_once == 1 else f'{at_once} at once'}"


def measure(sizes: Sizes, folder: Path) -> Iterator[Sample]:
    """Every kind of key, one connection after the other and many at once, against socat."""
    for kind in KEYS:
        ends = make_ends(folder, kind)
        for at_once in AT_ONCE:
            turns = peers.installed(peers.PYTUNNEL, peers.SOCAT_NODELAY)
            yield from take_turns(
                experiment(kind, at_once),
                turns,
                sizes.handshake_rounds,
                partial(connect, ends, sizes.handshakes, at_once),
            )


def connect(ends: Ends, count: int, at_once: int, peer: Peer) -> Mapping[str, float]:
    """One run of `count` connections, each of which has to bring its byte there and the verdict back."""
    with running.sink() as port, running.tunnel_to(port, peer, ends) as tunnel:
        source.exchange(tunnel.port, _WARM_UP, at_once)
        return {RATE: count / source.exchange(tunnel.port, count, at_once)}
