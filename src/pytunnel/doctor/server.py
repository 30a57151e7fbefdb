"""The database server of this node: what it is, and the one that runs at this moment."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytunnel.sst.optionfile import OptionGroup

SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a server that its service manager has started finds programs."""

PROGRAMS = ("mariadbd", "mysqld")
_FIRST_WITH_OWN_CERTIFICATE = {True: (11, 4), False: (5, 7)}  # whether it is MariaDB
_LIMIT = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """`numbers` are the first two of the version."""

    mariadb: bool
    numbers: tuple[int, int]

    def __str__(self) -> str:
        return f"{'MariaDB' if self.mariadb else 'MySQL'} {self.numbers[0]}.{self.numbers[1]}"

    @property
    def makes_certificate(self) -> bool:
        """Whether the server makes a certificate for its clients where none is configured."""
        return self.numbers >= _FIRST_WITH_OWN_CERTIFICATE[self.mariadb]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server process; `path` is its PATH, None where we may not look."""

    pid: int
    path: str | None


def ask_version(program: str) -> ServerVersion | None:
    """What the server's program says of itself; None where it can't be asked."""
    command = [program, "--no-defaults", "--version"]
    try:
        said = subprocess.run(command, capture_output=True, cwd="/", timeout=_LIMIT, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(said.decode(errors="replace"))


def parse_version(text: str) -> ServerVersion | None:
    """The version in what `mariadbd --version` or `mysqld --version` prints."""
    match = re.search(r"\bVer (\d+)\.(\d+)\.", text, re.ASCII)
    return ServerVersion("MariaDB" in text, (int(match[1]), int(match[2]))) if match else None


def find_running(mysqld: OptionGroup, datadir: Path) -> RunningServer | None:
    """The server that the pid file names, if it is one and runs."""
    try:
        pid = int(pid_file(mysqld, datadir, socket.gethostname()).read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() not in PROGRAMS:
            return None
    except (OSError, ValueError):
        return None
    try:
        return RunningServer(pid, parse_path(Path(f"/proc/{pid}/environ").read_bytes()))
    except OSError:
        return RunningServer(pid, None)


def pid_file(mysqld: OptionGroup, datadir: Path, hostname: str) -> Path:
    """Where the server writes its process id."""
    return datadir / (mysqld.get("pid-file") or f"{hostname.partition('.')[0]}.pid")


def parse_path(environment: bytes) -> str | None:
    """PATH in a process's environment as /proc has it."""
    values = [item.removeprefix(b"PATH=") for item in environment.split(b"\0") if item.startswith(b"PATH=")]
    return os.fsdecode(values[0]) if values else None
