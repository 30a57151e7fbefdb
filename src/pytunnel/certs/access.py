"""May the database server's user read a file? Asked of the kernel, as that user: groups and ACLs count."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytunnel.certs.errors import CertsError
from pytunnel.certs.findings import Finding, Level

_LIMIT = 10.0  # seconds for one question; a file system that hangs is no answer


@dataclass(frozen=True, slots=True)
class Reader:
    """A user of this host."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find_reader(name: str) -> Reader:
    """The user of that name. Raises CertsError where there is none, or where we can't ask in its name."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise CertsError(f"this host has no user {name!r}; expected the one that the server runs as") from error
    if os.geteuid() not in (0, entry.pw_uid):
        raise CertsError(f"only root and {name} can find out what {name} may read; run this with sudo")
    return Reader(name, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid)))


def ourselves() -> Reader:
    """The user that we are."""
    return Reader(user_name(os.geteuid()), os.geteuid(), os.getegid(), tuple(os.getgroups()))


def check_access(path: Path, reader: Reader) -> list[Finding]:
    """One finding where `reader` can't read the file, or the directory and the files in it; none where it can.

    A file that is not there is left to other checks.
    """
    whole = path.absolute()
    if not os.path.lexists(whole):
        return []
    reason = _closed_directory(whole, reader) or _closed_file(whole, reader)
    return [Finding(Level.FAULT, str(path), reason)] if reason else []


def _closed_directory(path: Path, reader: Reader) -> str | None:
    for directory in reversed(path.parents):
        if not may(reader, "-x", directory):
            return f"the user {reader.name} can't read it, because the directory {directory} is closed to that user"
    if path.is_dir() and not (may(reader, "-x", path) and may(reader, "-r", path)):
        return f"the directory is closed to the user {reader.name}"
    return None


def _closed_file(path: Path, reader: Reader) -> str | None:
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    for file in files:
        if not may(reader, "-r", file):
            status = file.stat()
            return (
                f"the user {reader.name} can't read {file} (owner {user_name(status.st_uid)}, "
                f"mode {status.st_mode & 0o7777:04o}); run: chown {reader.name} {file}"
            )
    return None


def may(reader: Reader, question: str, path: Path) -> bool:
    """Ask test(1), run as that user: `-r` may it read, `-w` write, `-x` enter or run `path`. Raises CertsError."""
    try:
        return run_as(reader, ["test", question, str(path)], limit=_LIMIT).returncode == 0
    except subprocess.TimeoutExpired as error:
        raise CertsError(f"the file system of {path} did not answer within {_LIMIT:g} s") from error


def run_as(
    reader: Reader, command: Sequence[str], *, limit: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program as that user, in the root directory, for `limit` seconds at most; its output is in the result.

    Raises OSError and subprocess.TimeoutExpired.
    """
    foreign = os.geteuid() != reader.uid
    return subprocess.run(
        command,
        user=reader.uid if foreign else None,
        group=reader.gid if foreign else None,
        extra_groups=reader.groups if foreign else None,
        cwd="/",
        env=environment,
        capture_output=True,
        timeout=limit,
        check=False,
    )


def user_name(uid: int) -> str:
    """The user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
