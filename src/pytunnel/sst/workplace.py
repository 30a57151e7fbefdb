"""The files that exist only while a transfer runs, and their removal whatever happens.

In the datadir: `wsrep_sst.pid` (one script at a time) and, on the joiner, `sst_in_progress` (health probes look at
it). Elsewhere: one private directory, mode 0700, for rsync's configuration and the secret. Its name is made from the
datadir's, so that a run finds and removes what a killed one has left.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from pytunnel.sst.errors import ExitCode, SstError

PID_FILE = "wsrep_sst.pid"
IN_PROGRESS = "sst_in_progress"

_PATIENCE = 30.0  # seconds that a previous script has to end


@asynccontextmanager
async def claim(datadir: Path) -> AsyncIterator[None]:
    """Be the only script that works on this datadir; a previous one has 30 seconds to end.

    Raises SstError (already running) after that.
    """
    path = datadir / PID_FILE
    with trio.move_on_after(_PATIENCE) as patience:
        while (pid := _running(path)) is not None:
            await _until_ended(pid)
    if patience.cancelled_caught:
        raise SstError(
            f"another state transfer is running in {datadir} (process {pid}, from {path}); "
            "wait for it or end it, then start this node again",
            exit_code=ExitCode.ALREADY_RUNNING,
        )
    _write_new(path, f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def in_progress(datadir: Path) -> Iterator[None]:
    """Show health probes that the joiner is at work."""
    path = datadir / IN_PROGRESS
    _write_new(path, b"")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def private_directory(datadir: Path, parent: Path) -> Iterator[Path]:
    """A directory that only we can enter, below `parent`; what a killed run left for this datadir is removed first."""
    prefix = f"pytunnel-{hashlib.sha256(os.fsencode(datadir)).hexdigest()[:16]}-"
    _remove_remains(parent, prefix)
    try:
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise SstError(f"no private directory can be made in {parent}: {error.strerror}") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def write_private(path: Path, text: str) -> Path:
    """Write a file that only we can read, and that was never anything else."""
    _write_new(path, text.encode(), mode=0o600)
    return path


def _write_new(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace whatever is at `path`; a link that somebody has put there is not followed."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _running(path: Path) -> int | None:
    """The process that the pid file names, if it is an SST script that still runs; the number may be reused."""
    try:
        pid = int(path.read_text().strip())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"wsrep_sst_" in command and pid != os.getpid() else None


async def _until_ended(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def _remove_remains(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*"):
        if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)
