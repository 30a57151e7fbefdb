"""The files that exist only while a transfer runs, and their removal whatever happens.

In the datadir: `wsrep_sst.pid` (one script at a time) and, on the joiner, `sst_in_progress` (health probes look at
it). Elsewhere: one private directory, mode 0700, for rsync's configuration and the secret. Its name is made from the
datadir's, so that a run finds and removes what a killed one has left. We hold a lock on the pid file and on the
private directory while we live: the kernel frees it however a process ends, and it reaches other containers.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.manifest import PRIVATE_PREFIX

log = logging.getLogger(__name__)

PID_FILE = "wsrep_sst.pid"
IN_PROGRESS = "sst_in_progress"

_PATIENCE = 30.0  # seconds that a previous script has to end
_LOOK_AGAIN = 1.0  # seconds, where nothing tells us of the end of the other script


@asynccontextmanager
async def claim(datadir: Path) -> AsyncIterator[None]:
    """Be the only script that works on this datadir; a previous one has 30 seconds to end.

    Raises SstError: already running after that, missing where there is no datadir, and where the file can't be made.
    """
    path = datadir / PID_FILE
    attempt: int | _Holder = _Holder()
    with trio.move_on_after(_PATIENCE):
        while isinstance(attempt := _try_claim(path), _Holder):
            await _until_ended(attempt.pid if attempt.seen_running else None)
    if isinstance(attempt, _Holder):
        holder = f"process {attempt.pid}, from {path}" if attempt.pid is not None else f"it has locked {path}"
        raise SstError(
            f"another state transfer is running in {datadir} ({holder}); "
            "wait for it or end it, then start this node again",
            exit_code=ExitCode.ALREADY_RUNNING,
        )
    try:
        yield
    finally:
        if _is_at(attempt, path) and _pid_in(attempt) == os.getpid():
            _remove(path)
        os.close(attempt)


@contextmanager
def in_progress(datadir: Path) -> Iterator[None]:
    """Show health probes that the joiner is at work. Raises SstError where the file can't be made."""
    path = datadir / IN_PROGRESS
    _write_new(path, b"")
    try:
        yield
    finally:
        _remove(path)


@contextmanager
def private_directory(datadir: Path, parents: Sequence[Path]) -> Iterator[Path]:
    """A directory that only we can enter, below the first of `parents` in which one can be made.

    What a killed run left for this datadir is removed first. Raises SstError that tells of every parent.
    """
    prefix = f"{PRIVATE_PREFIX}{hashlib.sha256(os.fsencode(datadir)).hexdigest()[:16]}-"
    for parent in parents:
        _remove_remains(parent, prefix)
    directory, descriptor = _make_private(parents, prefix)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def write_private(path: Path, text: str) -> Path:
    """Write a file that only we can read, and that was never anything else. Raises SstError where that can't be."""
    _write_new(path, text.encode(), mode=0o600)
    return path


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who has the pid file: the process that it names, and whether we see that process run as an SST script."""

    pid: int | None = None
    seen_running: bool = False


def _try_claim(path: Path) -> int | _Holder:
    """Our new pid file, open and locked, or who has it now.

    Only who has locked a file may remove it, so that nobody removes what another has just made. Scripts of other
    methods lock nothing: for them the process number counts.
    """
    ours = None
    try:
        descriptor, created = _open_pid_file(path)
        try:
            locked = _lock(descriptor)
            pid = _pid_in(descriptor)
            running = pid is not None and _is_script(pid)
            if not locked or running or not _is_at(descriptor, path):
                return _Holder(pid, running)
            if created:
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                ours = descriptor
                return ours
            path.unlink()
            return _try_claim(path)
        finally:
            if ours is None:
                os.close(descriptor)
    except OSError as error:
        raise _refusal(path, error) from error


def _open_pid_file(path: Path) -> tuple[int, bool]:
    """The file, and whether we made it; a link is not followed."""
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL, 0o644), True
        except FileExistsError:
            with suppress(FileNotFoundError):  # removed this moment
                return os.open(path, os.O_RDWR | os.O_NOFOLLOW), False


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _pid_in(descriptor: int) -> int | None:
    try:
        pid = int(os.pread(descriptor, 64, 0))
    except ValueError:
        return None
    return pid if pid > 0 else None


def _is_script(pid: int) -> bool:
    """Whether another SST script runs under this number, which may have been reused."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"wsrep_sst_" in command and pid != os.getpid()


async def _until_ended(pid: int | None) -> None:
    """Wait for the end of a process; for a while only, where it is not known or can't be watched."""
    try:
        descriptor = os.pidfd_open(pid) if pid is not None else None
    except ProcessLookupError:
        return
    except OSError:  # kernels before 5.3 don't have it, and the seccomp filters of some containers refuse it
        descriptor = None
    if descriptor is None:
        await trio.sleep(_LOOK_AGAIN)
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def _make_private(parents: Sequence[Path], prefix: str) -> tuple[Path, int]:
    """A new private directory, and the descriptor that holds the lock on it."""
    refusals: list[OSError] = []
    for parent in parents:
        try:
            while True:
                directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
                descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                with suppress(OSError):  # in a file system without locks nobody gets one, so nobody removes it either
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_at(descriptor, directory):
                    return directory, descriptor
                os.close(descriptor)  # taken for remains before we had locked it
        except OSError as error:
            refusals.append(error)
    reasons = ", ".join(f"{parent} ({error.strerror})" for parent, error in zip(parents, refusals, strict=True))
    missing = all(isinstance(error, FileNotFoundError) for error in refusals)
    raise SstError(
        f"no private directory can be made in {reasons}; tmpdir has to name a directory that the server's user can "
        "write",
        exit_code=ExitCode.MISSING if missing else ExitCode.OTHER,
    )


def _remove_remains(parent: Path, prefix: str) -> None:
    """Remove what nobody holds any more; others may make, swap and remove entries of a shared directory meanwhile."""
    with suppress(OSError):  # of a parent that can't be read, the making of our own tells
        for path in [path for path in parent.iterdir() if path.name.startswith(prefix)]:
            with suppress(OSError):  # gone meanwhile, a link, or somebody else's
                _remove_unless_held(path)


def _remove_unless_held(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid() or not _lock(descriptor):
            return
        with os.scandir(descriptor) as entries:
            found = list(entries)
        for entry in found:  # by the descriptor: at the path there may be another directory by now
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.name, dir_fd=descriptor)
            else:
                os.unlink(entry.name, dir_fd=descriptor)
        path.rmdir()
    finally:
        os.close(descriptor)


def _write_new(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace whatever is at `path`; a link that somebody has put there is not followed."""
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise _refusal(path, error) from error


def _remove(path: Path) -> None:
    """Remove our file at the end; a failure is told, but must not hide how the transfer itself ended."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s can't be removed: %s", path, error.strerror)


def _refusal(path: Path, error: OSError) -> SstError:
    in_the_way = error.errno in (errno.EISDIR, errno.ELOOP)
    remedy = "remove it" if in_the_way else f"{path.parent} has to be a directory that the server's user can write"
    return SstError(
        f"{path} can't be written: {error.strerror}; {remedy}",
        exit_code=ExitCode.MISSING if isinstance(error, FileNotFoundError) else ExitCode.OTHER,
    )
