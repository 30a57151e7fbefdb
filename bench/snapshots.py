"""Goal 5: the time that a whole snapshot takes from a donor to a joiner, with real rsync on both sides.

For everybody the clock starts when the donor's tables are flushed, with the joiner (and the old scripts' tunnel)
already listening, and stops when the joiner's server may go on. The processor time is that of all programs, rsync
included, until they have ended.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import BenchError, datadir, peers, processes, rsyncs, running
from bench.credentials import Ends
from bench.datadir import Shape
from bench.peers import Peer
from bench.results import Sample
from bench.rounds import take_turns
from bench.sizes import Sizes
from tests.support.sst import POSITION, PlayedServer

SECONDS, CPU = "s", "CPU s"
NO_TUNNEL = Peer("no tunnel", lambda _route, _end: [], lambda _route, _end: [])
MEMORY = Path("/dev/shm")  # noqa: S108 - directories of our own are made in it, by tempfile

PATIENCE = 180.0
"""Seconds that a transfer may take; a virtual machine may get a tenth of its processors for a while."""


@dataclass(frozen=True, slots=True)
class _Clock:
    """Readings at the start of a run: the time and the processor time of all that we started, in seconds."""

    time: float
    cpu: float

    @classmethod
    def start(cls) -> _Clock:
        return cls(time.perf_counter(), processes.descendants_cpu_seconds())

    def seconds(self) -> float:
        return time.perf_counter() - self.time

    def cpu_seconds(self) -> float:
        return processes.descendants_cpu_seconds() - self.cpu


def measure(sizes: Sizes, ends: Ends) -> Iterator[Sample]:
    """Every shape of a datadir through pytunnel, through no tunnel, and as the old scripts did it."""
    turns = (peers.PYTUNNEL, NO_TUNNEL, *peers.installed(peers.SOCAT, peers.STUNNEL))
    for shape in datadir.shapes(sizes.snapshot_bytes, sizes.small_schemas):
        with donor_with(shape, ends) as donor:
            expected = datadir.digests(donor.datadir)
            transfer(donor, ends, expected, peers.PYTUNNEL)  # warms up: memory is slow at its first touch
            yield from take_turns(
                shape.name,
                turns,
                sizes.snapshot_rounds,
                partial(transfer, donor, ends, expected),
            )


@contextmanager
def donor_with(shape: Shape, ends: Ends) -> Iterator[PlayedServer]:
    """A played donor whose datadir, in memory, has this shape."""
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="bench-donor-") as name:
        donor = PlayedServer(Path(name) / "donor")
        donor.use(ends.client.identity, [ends.client.identity, ends.server.identity])
        donor.options["backup-threads"] = str(rsyncs.STREAMS)
        datadir.fill(donor.datadir, shape)
        yield donor


def transfer(donor: PlayedServer, ends: Ends, expected: Mapping[str, str], peer: Peer) -> Mapping[str, float]:
    """One run into an empty datadir, each file's digest checked; raises BenchError."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY, prefix="bench-joiner-"))
    try:
        joiner = PlayedServer(folder / "joiner")
        joiner.use(ends.server.identity, [ends.client.identity, ends.server.identity])
        if peer is peers.PYTUNNEL:
            figures = _through_pytunnel(donor, joiner)
        else:
            figures = _through_port(peer, donor, joiner, ends)
        if datadir.digests(joiner.datadir) != expected:
            raise BenchError(f"what arrived through {peer.name} is not what was sent")
        return figures
    finally:
        shutil.rmtree(folder)


def _through_pytunnel(donor: PlayedServer, joiner: PlayedServer) -> Mapping[str, float]:
    joining = joiner.start_joiner()
    donating = donor.start_donor(joining.ready())
    donating.expect("flush tables")
    clock = _Clock.start()
    donor.flush()
    donating.expect("continue", PATIENCE)
    donating.expect(f"done {POSITION}")
    joining.expect(POSITION)
    seconds = clock.seconds()
    if (donating.end(), joining.end()) != (0, 0):
        raise BenchError(f"pytunnel's donor or joiner failed; they said:\n{donating.log}{joining.log}")
    return {SECONDS: seconds, CPU: clock.cpu_seconds()}


def _through_port(peer: Peer, donor: PlayedServer, joiner: PlayedServer, ends: Ends) -> Mapping[str, float]:
    with rsyncs.daemon(joiner.root, joiner.datadir) as plain:
        if peer is NO_TUNNEL:
            clock = _Clock.start()
            rsyncs.transfer_as_planned(donor.datadir, plain)
            return {SECONDS: clock.seconds(), CPU: clock.cpu_seconds()}
        with running.tunnel_to(plain, peer, ends) as tunnel:
            clock = _Clock.start()
            rsyncs.transfer_by_schema(donor.datadir, tunnel.port)
            return {SECONDS: clock.seconds(), CPU: clock.cpu_seconds()}
