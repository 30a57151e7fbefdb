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
