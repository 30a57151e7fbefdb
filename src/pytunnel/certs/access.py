"""May the database server's user read a file? Asked of the kernel, as that user: groups and ACLs count.

That user may be an attacker who waits for root to ask. What is run in his name gets no terminal, environment, open
file or keyring of ours, and no time without end; what we advise to do gives him nothing that he chose by a link.
"""

from __future__ import annotations

import os
import pwd
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytunnel.certs.errors import CertsError
from pytunnel.certs.findings import Finding, Level
from pytunnel.system.keyring import leave_session_keyring

_LIMIT = 10.0  # seconds for one question; a file system that hangs is no answer
_MOST_OUTPUT = 64 * 1024  # bytes of each stream that are kept


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
            return _why_unreadable(file, reader)
    return None


def _why_unreadable(file: Path, reader: Reader) -> str | None:
    try:
        status = file.stat()
    except OSError:  # a link that leads nowhere: other checks tell of it
        return None
    return (
        f"the user {reader.name} can't read {file} (owner {user_name(status.st_uid)}, "
        f"mode {status.st_mode & 0o7777:04o}); {advise_owner(file, reader.name)}"
    )


def advise_owner(path: Path, user: str) -> str:
    """How to make the file or directory that user's. chown would follow a link, which that user may have made."""
    if path.is_symlink():
        return f"it is a link to {os.path.realpath(path)}: put what belongs to the user {user} in the link's place"
    return f"run: chown {user} {shlex.quote(str(path))}"


def may(reader: Reader, question: str, path: Path) -> bool:
    """Ask test(1), run as that user: `-r` may it read, `-w` write, `-x` enter or run `path`. Raises CertsError."""
    try:
        return run_as(reader, ["test", question, str(path)], limit=_LIMIT).returncode == 0
    except subprocess.TimeoutExpired as error:
        raise CertsError(f"the file system of {path} did not answer within {_LIMIT:g} s") from error


def run_as(
    reader: Reader, command: Sequence[str], *, limit: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program as that user, in the root directory, for `limit` seconds at most; the beginning of its output is in
    the result.

    It has a session of its own, so no terminal of ours; of our environment it gets PATH, or `environment` instead. What
    it started is ended with it, unless that left its process group. Raises OSError and subprocess.TimeoutExpired.
    """
    foreign = os.geteuid() != reader.uid
    if foreign:
        leave_session_keyring()
    process = subprocess.Popen(
        command,
        user=reader.uid if foreign else None,
        group=reader.gid if foreign else None,
        extra_groups=reader.groups if foreign else None,
        start_new_session=True,
        cwd="/",
        env=environment or {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            output, errors = _collect(process, limit)
        finally:
            # It is not waited for before, so the number of its group is still its own.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _collect(process: subprocess.Popen[bytes], limit: float) -> tuple[bytes, bytes]:
    """What the program says until it ends, whoever else still holds its output. Raises subprocess.TimeoutExpired."""
    deadline = time.monotonic() + limit
    assert process.stdout is not None
    assert process.stderr is not None
    said = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            for descriptor in (ended, *said):
                selector.register(descriptor, selectors.EVENT_READ)
            ready: set[int] = set()
            while ready != {ended}:
                left = deadline - time.monotonic()
                ready = {key.fd for key, _ in selector.select(max(left, 0))}
                if left <= 0 or not ready:
                    raise subprocess.TimeoutExpired(process.args, limit)
                for descriptor in ready - {ended}:
                    data = os.read(descriptor, _MOST_OUTPUT)
                    said[descriptor] = (said[descriptor] + data)[:_MOST_OUTPUT]
                    if not data:
                        selector.unregister(descriptor)
    finally:
        os.close(ended)
    return said[process.stdout.fileno()], said[process.stderr.fileno()]


def user_name(uid: int) -> str:
    """The user's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
