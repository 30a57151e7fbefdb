"""Which processes of this machine belong to a node, as /proc tells."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.waiting import comes_true

_EXIT_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Process:
    """A running process and its command line."""

    pid: int
    command: str


def mentioning(directory: Path) -> list[Process]:
    """The processes that work in `directory` or name it on their command line; never ourselves."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            # A process may end while it is looked at, and others' cwd can't be read by everyone.
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                command = " ".join(words).strip()
                if command and (str(directory) in command or _works_in(entry, directory)):
                    found.append(Process(int(entry.name), command))
    return found


def sst_program(directory: Path, method: str) -> int:
    """The process of the SST program that a server in `directory` has started, by way of a shell.

    A program that it is about to start has its command line for a moment: that one's parent is the program itself.
    """
    found = [
        process.pid
        for process in mentioning(directory)
        if f"wsrep_sst_{method} --role" in process.command and "sh -c" not in process.command
    ]
    (program,) = (pid for pid in found if _parent(pid) not in (None, *found))
    return program


def _parent(pid: int) -> int | None:
    """The process that started it; None where it has ended meanwhile."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def end_mentioning(directory: Path) -> None:
    """Kill the processes that `mentioning` finds and wait until they are gone."""
    for process in mentioning(directory):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    comes_true(lambda: not mentioning(directory), _EXIT_LIMIT)


def _works_in(entry: Path, directory: Path) -> bool:
    try:
        return (entry / "cwd").readlink().is_relative_to(directory)
    except OSError:
        return False
