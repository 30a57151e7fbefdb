"""The database server of this node: what it is, and the one that runs at this moment.

Its user writes its pid file and chooses its PATH. Neither may make root open, wait for or run what that user likes.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytunnel.certs.access import Reader, run_as
from pytunnel.sst.optionfile import OptionGroup

SERVICE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a server that its service manager has started finds programs."""

PROGRAMS = ("mariadbd", "mysqld")
_FIRST_WITH_OWN_CERTIFICATE = {True: (11, 4), False: (5, 7)}  # whether it is MariaDB
_LIMIT = 10.0  # seconds
_LONGEST_PID_FILE = 64  # bytes; it holds one number
_LONGEST_STATUS, _LONGEST_ENVIRONMENT = 64 * 1024, 4 * 1024 * 1024  # bytes
_LONGEST_PATH = 16 * 1024  # bytes; each of its directories is searched for each program


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
    """A server process; `path` is its PATH, None where we may not look or must not believe it."""

    pid: int
    path: str | None


def ask_version(program: str, account: Reader) -> ServerVersion | None:
    """What the server's program, run by `account`, says of itself; None where it can't be asked."""
    try:
        said = run_as(account, [program, "--no-defaults", "--version"], limit=_LIMIT).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(said.decode(errors="replace"))


def parse_version(text: str) -> ServerVersion | None:
    """The version in what `mariadbd --version` or `mysqld --version` prints."""
    match = re.search(r"\bVer (\d+)\.(\d+)\.", text, re.ASCII)
    return ServerVersion("MariaDB" in text, (int(match[1]), int(match[2]))) if match else None


def find_running(mysqld: OptionGroup, datadir: Path, account: Reader | None) -> RunningServer | None:
    """The server that the pid file names, if it is one, runs, and belongs to the datadir's owner alone.

    Its PATH is believed where the owner is `account`, in whose name programs from there are run, and where no account
    is known.
    """
    try:
        owner = datadir.stat().st_uid
        pid = int(_read_pid_file(pid_file(mysqld, datadir, socket.gethostname())))
        process = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY)
    except (OSError, ValueError):
        return None
    try:
        if not _is_server_of(owner, process):
            return None
        believed = account is None or account.uid == owner
        return RunningServer(pid, _path_of(process) if believed else None)
    finally:
        os.close(process)


def _read_pid_file(path: Path) -> str:
    """Its text. Raises OSError, also for what is no regular file, and ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        return file.read(_LONGEST_PID_FILE).decode()


def _is_server_of(owner: int, process: int) -> bool:
    """Whether the process of this directory of /proc has a server's name, and the owner's user ids alone.

    A setuid program under a server's name has two. The directory's own owner is root where the server was started by
    root, whatever it is now.
    """
    try:
        name = _read_at(process, "comm", _LONGEST_STATUS).decode().strip()
        status = _read_at(process, "status", _LONGEST_STATUS)
    except (OSError, ValueError):
        return False
    line = next((line for line in status.splitlines() if line.startswith(b"Uid:")), b"")
    return name in PROGRAMS and line.split()[1:] == 4 * [str(owner).encode()]


def _path_of(process: int) -> str | None:
    try:
        return parse_path(_read_at(process, "environ", _LONGEST_ENVIRONMENT))
    except OSError:
        return None


def _read_at(directory: int, name: str, most: int) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as file:
        return file.read(most)


def pid_file(mysqld: OptionGroup, datadir: Path, hostname: str) -> Path:
    """Where the server writes its process id."""
    return datadir / (mysqld.get("pid-file") or f"{hostname.partition('.')[0]}.pid")


def parse_path(environment: bytes) -> str | None:
    """PATH in a process's environment as /proc has it; None for one without measure."""
    values = [item.removeprefix(b"PATH=") for item in environment.split(b"\0") if item.startswith(b"PATH=")]
    return os.fsdecode(values[0]) if values and len(values[0]) <= _LONGEST_PATH else None
