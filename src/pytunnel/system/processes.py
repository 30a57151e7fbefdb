"""What the kernel tells of a process."""

from __future__ import annotations

from pathlib import Path


def stat_of(process: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the third one on, the state; the name before it may hold blanks.

    Raises FileNotFoundError or ProcessLookupError where there is no such process.
    """
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def parent_of(process: int) -> int:
    """The number of its parent; raises as stat_of."""
    return int(stat_of(process)[1])
