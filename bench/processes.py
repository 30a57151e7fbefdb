"""What process trees of this machine used, as the kernel accounts it, and how to end them.

This process adopts what its descendants leave behind, so that no forked child escapes the sum or outlives the run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
_TICKS = os.sysconf("SC_CLK_TCK")
_END_LIMIT = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class _Status:
    """The fields of /proc/PID/stat that matter here; times in seconds."""

    parent: int
    own: float
    waited_for: float


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise BenchError(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")


def cpu_seconds(roots: Sequence[int]) -> float:
    """Processor time of the trees below and including `roots`: living, dead and waited-for processes, user and system.

    A difference of two readings is what a tree used in between, as long as its root lives.
    """
    statuses, members = _settled(roots)
    return sum(statuses[pid].own + statuses[pid].waited_for for pid in members)


def descendants_cpu_seconds() -> float:
    """Processor time of all that this process ever started, but not its own."""
    ourselves = os.getpid()
    statuses, members = _settled([ourselves])
    used = sum(statuses[pid].own + statuses[pid].waited_for for pid in members)
    return used - statuses[ourselves].own


def proportional_set_size(roots: Iterable[int]) -> int:
    """Memory of the trees in bytes, a page that n processes share counted as 1/n in each."""
    total = 0
    for pid in _with_descendants(roots, _statuses()):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def count(roots: Iterable[int]) -> int:
    """How many processes the trees have."""
    return len(_with_descendants(roots, _statuses()))


def reap_orphans() -> None:
    """Forget the dead that were adopted; call it only while no child of ours has ended without being waited for."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_descendants() -> None:
    """Kill all that this process started and what that left behind."""
    deadline = time.monotonic() + _END_LIMIT
    while True:
        reap_orphans()
        living = _with_descendants([os.getpid()], _statuses()) - {os.getpid()}
        if not living:
            return
        if time.monotonic() > deadline:
            raise BenchError(f"processes that SIGKILL does not end: {sorted(living)}")
        for pid in living:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _settled(roots: Sequence[int]) -> tuple[dict[int, _Status], set[int]]:
    """All processes and the members of the trees, read while none of these came or went.

    One that ends while we read is missing twice: its parent was read before it waited, itself after it had gone.
    """
    deadline = time.monotonic() + _END_LIMIT
    before: set[int] = set()
    while time.monotonic() < deadline:
        statuses = _statuses()
        members = _with_descendants(roots, statuses)
        if members == before:
            return statuses, members
        before = members
        time.sleep(0.02)
    raise BenchError(f"the processes below {list(roots)} come and go without end")


def _with_descendants(roots: Iterable[int], statuses: dict[int, _Status]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, status in statuses.items():
        children.setdefault(status.parent, []).append(pid)
    members: set[int] = set()
    waiting = [pid for pid in roots if pid in statuses]
    while waiting:
        pid = waiting.pop()
        members.add(pid)
        waiting.extend(children.get(pid, ()))
    return members


def _statuses() -> dict[int, _Status]:
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
            found[int(directory.name)] = _parse(directory.joinpath("stat").read_text())
    return found


def _parse(stat: str) -> _Status:
    # The second field is the program's name in brackets, and may hold anything; proc(5) numbers the fields from 1.
    fields = stat.rpartition(")")[2].split()
    user, system, waited_user, waited_system = (int(field) / _TICKS for field in fields[11:15])
    return _Status(int(fields[1]), user + system, waited_user + waited_system)
