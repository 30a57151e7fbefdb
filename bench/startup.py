"""Goal 7: how long the programs take until they can do something."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import BenchError
from bench.credentials import Ends
from bench.results import Sample
from bench.sizes import Sizes
from tests.support.sst import PlayedServer

EXPERIMENT = "start-up"
MILLISECONDS = "ms"
PYTHON, HELP, READY = "python -c pass", "pytunnel --help", "the SST method until `ready`"
_LIMIT = 20.0  # seconds
_SOURCES = Path(__file__).parents[1] / "src"


def measure(sizes: Sizes, ends: Ends) -> Iterator[Sample]:
    """Each program in turn; the first round only fills the caches."""
    programs: dict[str, Callable[[], float]] = {
        PYTHON: lambda: _time([sys.executable, "-c", "pass"]),
        HELP: lambda: _time([sys.executable, "-m", "pytunnel", "--help"]),
        READY: lambda: _time_until_ready(ends),
    }
    for number in range(sizes.starts + 1):
        for name, run in programs.items():
            seconds = run()
            if number:
                yield Sample(EXPERIMENT, name, number - 1, MILLISECONDS, seconds * 1000)


def _time(command: list[str]) -> float:
    environment = os.environ | {"PYTHONPATH": str(_SOURCES)}
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=_LIMIT, env=environment)
    return time.perf_counter() - began


def _time_until_ready(ends: Ends) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        joiner = PlayedServer(Path(name) / "joiner")
        joiner.use(ends.server.identity, [ends.client.identity, ends.server.identity])
        began = time.perf_counter()
        run = joiner.start_joiner()
        try:
            if not run.line().startswith("ready "):
                raise BenchError(f"the joiner did not get ready; it said:\n{run.log}")
            return time.perf_counter() - began
        finally:
            run.process.terminate()
            run.end()
