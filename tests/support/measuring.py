"""What a running program takes of the machine: memory, file descriptors, children."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

MEBI = 1024 * 1024


def resident(pid: int) -> int:
    """The memory that a process and its children hold at this moment, in bytes."""
    return sum(_resident(each) for each in (pid, *children(pid)))


def open_files(pid: int) -> int:
    """How many file descriptors a process and its children have."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in (pid, *children(pid)))


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are still there, and theirs."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has just ended
            for child in map(int, listing.read_text().split()):
                found += [child, *children(child)]
    return found


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0  # a child that has just ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
