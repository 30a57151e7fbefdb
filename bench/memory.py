"""Goal 4: what open connections that carry nothing cost of the memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from bench import peers, processes, running, source
from bench.credentials import Ends
from bench.peers import Peer
from bench.results import Sample
from bench.rounds import take_turns
from bench.sizes import Sizes

EXPERIMENT = "idle connections"
LISTENING, CONNECTING, PROCESSES = "MB listening end", "MB connecting end", "processes of the listening end"
_CARRIED = 200_000  # bytes that each connection has carried before it idles: its buffers were in use


def measure(sizes: Sizes, ends: Ends) -> Iterator[Sample]:
    """The memory of both ends, against socat."""
    turns = peers.installed(peers.PYTUNNEL, peers.SOCAT)
    yield from take_turns(EXPERIMENT, turns, sizes.memory_rounds, partial(hold, ends, sizes.idle_connections))


def hold(ends: Ends, count: int, peer: Peer) -> Mapping[str, float]:
    """One run with `count` connections open."""
    with (
        running.sink() as port,
        running.tunnel_to(port, peer, ends) as tunnel,
        source.idle_connections(tunnel.port, count, _CARRIED),
    ):
        return {
            LISTENING: processes.proportional_set_size([tunnel.server]) / 1e6,
            CONNECTING: processes.proportional_set_size([tunnel.client]) / 1e6,
            PROCESSES: processes.count([tunnel.server]),
        }
