"""The database server that runs us: what is said to it on standard output, and whether it is still there."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

import trio

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.system.processes import parent_of, stat_of

_LOOK_AGAIN = 1.0  # seconds, where nothing tells us of the end of a process
_SHELLS = ("sh", "dash", "bash", "busybox", "ksh", "zsh")


def say(line: str) -> None:
    """Send one line to the server; nothing else may reach standard output.

    Raises SstError when the server has closed its end.
    """
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise _gone() from error


def close_inherited_descriptors() -> None:
    """Close all but standard input, output and error.

    MariaDB leaks its own end of our pipes into us; while we hold it, the pipe never tells that the server has gone.
    """
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) > 2:
            with suppress(OSError):  # the one that the listing itself had open
                os.close(int(entry.name))


def find_server() -> int:
    """The process that runs us: our parent, or the parent of the shell that it took for it (`sh -c`)."""
    parent = os.getppid()
    try:
        program = Path(f"/proc/{parent}/exe").readlink().name
        grandparent = parent_of(parent)
    except OSError:
        return parent
    return grandparent if program in _SHELLS else parent


async def watch(server: int) -> None:
    """Return never; raise SstError as soon as the server has ended or has closed our standard output.

    `server` is its process id. A server that died can't take the data any more, and a new one might already write to
    the same files; one that closed the pipe has cancelled the transfer.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_until_process_ends, server)
        if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
            nursery.start_soon(_until_reader_closes, sys.stdout.fileno())
        nursery.start_soon(trio.sleep_forever)


async def _until_process_ends(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise _gone() from error
    except OSError:  # kernels before 5.3 don't have it, and the seccomp filters of some containers refuse it
        await _until_another_or_none(pid)
        raise _gone() from None
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    raise _gone()


async def _until_another_or_none(pid: int) -> None:
    """Look each second whether it is still the same process; the pipe tells earlier, where there is one."""
    started = _start_of(pid)
    while started is not None and _start_of(pid) == started:  # noqa: ASYNC110 - no event tells of it
        await trio.sleep(_LOOK_AGAIN)


def _start_of(pid: int) -> str | None:
    """When a process was started, in the system's own measure; None where it has ended."""
    try:
        fields = stat_of(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else fields[19]  # ended, and its parent has not asked for it yet


async def _until_reader_closes(descriptor: int) -> None:
    """A pipe that we only write to becomes `readable` when its reading end is closed (EPOLLERR of epoll_ctl(2))."""
    await trio.lowlevel.wait_readable(descriptor)
    raise _gone()


def _gone() -> SstError:
    return SstError("the database server that asked for this transfer has gone", exit_code=ExitCode.BROKEN_OFF)
