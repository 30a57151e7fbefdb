"""The database server that runs us: what is said to it on standard output, and whether it is still there."""

from __future__ import annotations

import os
import stat
import sys

import trio

from pytunnel.sst.errors import ExitCode, SstError


def say(line: str) -> None:
    """Send one line to the server; nothing else may reach standard output.

    Raises SstError when the server has closed its end.
    """
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise _gone() from error


async def watch(parent: int | None) -> None:
    """Return never; raise SstError as soon as the server has ended or has closed our standard output.

    `parent` is the server's process id where it was told. A server that died can't take the data any more, and one
    that closed the pipe has cancelled the transfer.
    """
    async with trio.open_nursery() as nursery:
        if parent is not None:
            nursery.start_soon(_until_process_ends, parent)
        if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
            nursery.start_soon(_until_reader_closes, sys.stdout.fileno())
        nursery.start_soon(trio.sleep_forever)


async def _until_process_ends(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise _gone() from error
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    raise _gone()


async def _until_reader_closes(descriptor: int) -> None:
    """A pipe that we only write to becomes `readable` when its reading end is closed (EPOLLERR of epoll_ctl(2))."""
    await trio.lowlevel.wait_readable(descriptor)
    raise _gone()


def _gone() -> SstError:
    return SstError("the database server that asked for this transfer has gone", exit_code=ExitCode.BROKEN_OFF)
