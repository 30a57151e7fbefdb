"""Goal 6: a snapshot for a node far away: how many streams fill the way, and what compression and delta save there."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import BenchError, datadir, pattern, processes, running
from bench.credentials import Ends
from bench.results import Sample
from bench.rounds import show
from bench.sizes import Sizes
from bench.snapshots import MEMORY, PATIENCE
from tests.support.sst import POSITION, PlayedServer, Ready

EXPERIMENT = "a snapshot for a far region"
SECONDS, RATE, SENT, CPU = "s", "MB/s of data", "MB sent", "CPU s"
DELAY = 0.04
"""Seconds for each byte, each way."""
BANDWIDTH = 50_000_000
"""Bytes a second, for all connections together."""
WINDOW = 1024 * 1024
"""Bytes that one connection may have under way."""

_PAGE = 16 * 1024  # bytes, as InnoDB has it
_NOISE = 5 * 1024  # bytes of a page that no compression makes smaller
_TABLES = 4
_MEGABYTE = 1_000_000
_CHANGED = 20  # one page of so many is another one on the joiner that had the data before


@dataclass(frozen=True, slots=True)
class Way:
    """How a snapshot is sent. `options` are those of the donor's `[sst]`; `has_old` is whether the joiner has the data
    of yesterday."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    has_old: bool = False


WAYS = (
    Way("1 stream", {"backup-threads": "1"}),
    Way("4 streams", {"backup-threads": "4"}),
    Way("16 streams", {"backup-threads": "16"}),
    Way("4 streams, lz4", {"backup-threads": "4", "compress": "lz4"}),
    Way("4 streams, zstd", {"backup-threads": "4", "compress": "zstd"}),
    Way("4 streams, delta", {"backup-threads": "4", "delta": "1"}, has_old=True),
)


def measure(sizes: Sizes, ends: Ends) -> Iterator[Sample]:
    """Every way in turn, each file's digest checked."""
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="bench-far-") as name:
        donor = PlayedServer(Path(name) / "donor")
        donor.use(ends.client.identity, [ends.client.identity, ends.server.identity])
        fill(donor.datadir, sizes.far_bytes, changed=False)
        expected = datadir.digests(donor.datadir)
        for number in range(sizes.far_rounds):
            for way in WAYS:
                figures = transfer(donor, ends, expected, way, sizes.far_bytes)
                show(EXPERIMENT, way.name, number, figures)
                for metric, value in figures.items():
                    yield Sample(EXPERIMENT, way.name, number, metric, value)


def fill(directory: Path, total: int, *, changed: bool) -> None:
    """Tables of pages that are a third noise and for the rest alike; `changed`: some pages are other ones."""
    for name in datadir.SYSTEM_FILES:
        (directory / name).write_bytes(pattern.piece(0, 100_000))
    (directory / "big").mkdir()
    for table in range(_TABLES):
        with (directory / f"big/table{table}.ibd").open("wb") as file:
            for page in range(total // _TABLES // _PAGE):
                other = changed and page % _CHANGED == 0
                noise = pattern.piece((table * 7919 + page) * 4099 + 11 * other, _NOISE)
                file.write(noise)
                file.write((b"row %08d of one table; " % page * _PAGE)[: _PAGE - _NOISE])


def transfer(donor: PlayedServer, ends: Ends, expected: Mapping[str, str], way: Way, total: int) -> Mapping[str, float]:
    """One run; raises BenchError when what arrives is not what was sent."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY, prefix="bench-joiner-"))
    try:
        joiner = PlayedServer(folder / "joiner")
        joiner.use(ends.server.identity, [ends.client.identity, ends.server.identity])
        if way.has_old:
            fill(joiner.datadir, total, changed=True)
        donor.options = {name: donor.options[name] for name in ("tcert", "tca")} | dict(way.options)
        figures = _run(donor, joiner, total)
        if datadir.digests(joiner.datadir) != expected:
            raise BenchError(f"what arrived over {way.name} is not what was sent")
        return figures
    finally:
        shutil.rmtree(folder)


def _run(donor: PlayedServer, joiner: PlayedServer, total: int) -> Mapping[str, float]:
    joining = joiner.start_joiner()
    ready = joining.ready()
    (port,) = running.free_ports(1)
    words = map(str, (port, ready.port, DELAY, BANDWIDTH, WINDOW))
    with running.running([sys.executable, "-m", "bench.far_relay", *words], port) as relay:
        donating = donor.start_donor(Ready(ready.address.replace(f":{ready.port}/", f":{port}/"), ready.secret))
        donating.expect("flush tables")
        before, began = _used(relay), time.perf_counter()
        donor.flush()
        donating.expect("continue", PATIENCE)
        donating.expect(f"done {POSITION}")
        joining.expect(POSITION)
        seconds = time.perf_counter() - began
        if (donating.end(), joining.end()) != (0, 0):
            raise BenchError(f"donor or joiner failed; they said:\n{donating.log}{joining.log}")
        used = _used(relay) - before
    return {SECONDS: seconds, RATE: total / _MEGABYTE / seconds, SENT: _sent(donating.log) / _MEGABYTE, CPU: used}


def _used(relay: int) -> float:
    """Processor seconds of all programs but the relay, which is no part of a transfer."""
    return processes.descendants_cpu_seconds() - processes.cpu_seconds([relay])


def _sent(log: str) -> int:
    """The bytes that a donor's log says it sent, rsync's own included."""
    match = re.search(r"sent .* \((\d+) bytes\)", log)
    if match is None:
        raise BenchError(f"the donor does not say how much it sent; it said:\n{log}")
    return int(match[1])
