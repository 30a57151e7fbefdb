"""Changes in directories as events, by inotify(7): by the C library, for no library of it is made for trio."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

_IN_MODIFY = 0x002
_IN_ATTRIB = 0x004
_IN_CLOSE_WRITE = 0x008
_IN_MOVED_FROM = 0x040
_IN_MOVED_TO = 0x080
_IN_CREATE = 0x100
_IN_DELETE = 0x200
_IN_DELETE_SELF = 0x400
_IN_MOVE_SELF = 0x800
_IN_ONLYDIR = 0x0100_0000
_IN_MASK_ADD = 0x2000_0000  # two paths may lead to one directory, which has one watch
_ENTRIES = (
    _IN_ATTRIB
    | _IN_MOVED_FROM
    | _IN_MOVED_TO
    | _IN_CREATE
    | _IN_DELETE
    | _IN_DELETE_SELF
    | _IN_MOVE_SELF
    | _IN_ONLYDIR
    | _IN_MASK_ADD
)
_CONTENTS = _IN_MODIFY | _IN_CLOSE_WRITE
_IN_Q_OVERFLOW = 0x4000
_HEAD = struct.Struct("iIII")  # struct inotify_event: watch, mask, cookie, length of the name behind it
_AT_ONCE = 65536

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Change:
    """`name` of `directory` changed; "" is itself, perhaps a file. None: changes were lost, all may have changed."""

    directory: Path | None
    name: str


class Inotify:
    """Watches directories, from the moment of `add` on; to be closed, or used as a context manager.

    Raises OSError where the system allows no more of it.
    """

    def __init__(self) -> None:
        self._descriptor: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise _failed()
        self._watched: dict[int, set[Path]] = {}  # one watch each, also where mounts or links give it two paths

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def add(self, directory: Path, *, contents: bool) -> None:
        """Watch a directory's entries too, and what is written to its files if `contents`. Raises OSError."""
        self._add(directory, _ENTRIES | _CONTENTS if contents else _ENTRIES)

    def add_file(self, file: Path) -> None:
        """Watch a file itself: its directory does not see what is written to it by another of its names, as where it is
        mounted there. Raises OSError.
        """
        self._add(file, _CONTENTS | _IN_ATTRIB | _IN_MASK_ADD)

    def _add(self, path: Path, mask: int) -> None:
        watch = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask)
        if watch < 0:
            raise _failed()
        self._watched.setdefault(watch, set()).add(path)

    async def changes(self) -> list[Change]:
        """Wait for changes, and return all that there are."""
        await trio.lowlevel.wait_readable(self._descriptor)
        return list(self._parse(os.read(self._descriptor, _AT_ONCE)))

    def close(self) -> None:
        """Watch no more."""
        os.close(self._descriptor)

    def _parse(self, events: bytes) -> Iterator[Change]:
        start = 0
        while start < len(events):
            watch, mask, _, length = _HEAD.unpack_from(events, start)
            start += _HEAD.size
            name = os.fsdecode(events[start : start + length].rstrip(b"\0"))
            start += length
            for directory in {None} if mask & _IN_Q_OVERFLOW else self._watched.get(watch, {None}):
                yield Change(directory, name)


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
