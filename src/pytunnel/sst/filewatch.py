"""Wait for files to appear in a directory, by inotify(7): an event instead of a loop that looks again and again."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from pytunnel.sst.errors import SstError

_IN_MODIFY = 0x002
_IN_CLOSE_WRITE = 0x008
_IN_MOVED_TO = 0x080
_IN_CREATE = 0x100

_libc = ctypes.CDLL(None, use_errno=True)
Found = TypeVar("Found")


async def wait_for(directory: Path, look: Callable[[], Found | None]) -> Found:
    """Call `look` now and after each change of a file in `directory` until it returns something else than None.

    Raises SstError when the directory can't be watched, and whatever `look` raises.
    """
    descriptor = _watch(directory)
    try:
        while (found := look()) is None:
            await trio.lowlevel.wait_readable(descriptor)
            os.read(descriptor, 65536)
        return found
    finally:
        os.close(descriptor)


def _watch(directory: Path) -> int:
    descriptor: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise _failed(directory)
    mask = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_CREATE
    if _libc.inotify_add_watch(descriptor, os.fsencode(directory), mask) < 0:
        os.close(descriptor)
        raise _failed(directory)
    return descriptor


def _failed(directory: Path) -> SstError:
    return SstError(f"{directory} can't be watched for changes: {os.strerror(ctypes.get_errno())}")
