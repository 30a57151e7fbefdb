"""`python -m bench`: measures everything, writes JSON, tables and plots."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench import (
    BenchError,
    far,
    handshakes,
    machine,
    memory,
    peers,
    processes,
    report,
    snapshots,
    startup,
    streams,
    websocket,
)
from bench.credentials import make_ends
from bench.results import Results, Sample
from bench.sizes import FULL, QUICK, Sizes

_ROOT = Path(__file__).parents[1]
_TIME_LIMIT = 60 * 60  # seconds; on a busy machine it takes half of that


def main() -> int:
    """Run as the command line says; returns the exit code."""
    arguments = _parser().parse_args()
    sizes = QUICK if arguments.quick else FULL
    if arguments.gigabytes is not None:
        sizes = sizes.with_gigabytes(arguments.gigabytes)
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _end)
    signal.alarm(_TIME_LIMIT)
    processes.adopt_orphans()
    try:
        place = report.for_trial(_ROOT) if arguments.quick else report.for_the_project(_ROOT)
        report.write(_run(sizes), place)
        print(f"written: {place.page}, {place.data}")
        return 0
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        processes.end_descendants()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, written below build/")
    parser.add_argument("--gigabytes", type=float, metavar="N", help="move N GB in each run of a stream or snapshot")
    return parser


def _run(sizes: Sizes) -> Results:
    """All measurements; where one fails, those before it are written to the trial's page, for they took long."""
    before = machine.describe()
    command = "make bench"
    if sizes is not FULL:
        command += f' BENCH="{" ".join(sys.argv[1:])}"'
    samples: list[Sample] = []

    def results() -> Results:
        return Results(before, command, peers.missing(), asdict(sizes), tuple(samples))

    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        try:
            samples.extend(_measure(sizes, Path(name)))
        except (BenchError, AssertionError):  # the second is of the played servers, which the tests use too
            trial = report.for_trial(_ROOT)
            report.write(results(), trial)
            print(f"broken off; what was measured until then: {trial.page}", file=sys.stderr)
            raise
    return results()


def _measure(sizes: Sizes, folder: Path) -> Iterator[Sample]:
    ends = make_ends(folder / "shared", "rsa")
    yield from startup.measure(sizes, ends)
    yield from streams.measure(sizes, ends)
    yield from websocket.measure(sizes, ends)
    yield from handshakes.measure(sizes, folder / "handshakes")
    yield from memory.measure(sizes, ends)
    yield from snapshots.measure(sizes, ends)
    yield from far.measure(sizes, ends)


def _end(number: int, _frame: object) -> None:
    why = f"not done within {_TIME_LIMIT} s" if number == signal.SIGALRM else f"ended by {signal.Signals(number).name}"
    raise BenchError(why)


if __name__ == "__main__":
    sys.exit(main())
