"""Tell when what a path leads to may have changed: the file, or any link or directory on the way to it.

Kubernetes changes all files of a volume at once by renaming one symbolic link that each of them leads through, and an
administrator may rename a whole directory, so every directory that is looked into on the way is watched, for the
name that is looked up in it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import trio

from pytunnel.system.inotify import Change, Inotify

_MOST_LINKS = 40  # as many as Linux follows, path_resolution(7)
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_SETTLED = 0.3  # seconds without a change: a certificate and its key are two files, written one after the other
_LATEST = 3.0  # seconds after the first change, however many follow


def lookups(path: Path) -> Iterator[tuple[Path, str]]:
    """Each directory on the way to what `path` leads to, with the name that is looked up in it; the links' ways too.

    The last one is where the file itself is, or would be.
    """
    here = Path("/")
    ahead = list(reversed(path.absolute().parts[1:]))
    links = 0
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = here.parent
            continue
        yield here, name
        try:
            target = Path((here / name).readlink())
        except OSError:  # no link, or not there
            here = here / name
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        if target.is_absolute():
            here = Path("/")
        ahead += reversed([part for part in target.parts if part != "/"])


class PathWatch:
    """What leads to some paths, watched from now on. A directory as a path stands for everything that is in it.

    `unwatched` are directories that this user may pass through, but not read. Raises OSError where the system allows
    no more of it.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._names: dict[Path, set[str]] = {}
        self._whole: set[Path] = set()
        self._last: set[Path] = set()  # where the files themselves are; others may be written to all the time, as /tmp
        self._files: set[Path] = set()
        self.unwatched: list[Path] = []
        for path in paths:
            self._note(path)
            if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises what whoever reads the path is to say
                self._whole.add(path.resolve())
                with suppress(PermissionError, FileNotFoundError, NotADirectoryError):  # `_add` says so, or it changes
                    for entry in path.iterdir():
                        self._note(entry)
        self._inotify = Inotify()
        try:
            for directory in sorted({*self._names, *self._whole}):
                self._add(directory)
            for file in sorted(self._files):
                with suppress(OSError):  # it is not there, or closed to us: its directory is watched
                    self._inotify.add_file(file)
        except BaseException:
            self._inotify.close()
            raise

    async def changed(self) -> None:
        """Wait until something changes, and then until it has settled: files are rarely changed one at a time."""
        await self._concerned()
        with trio.move_on_after(_LATEST):
            while True:
                with trio.move_on_after(_SETTLED) as quiet:
                    await self._concerned()
                if quiet.cancelled_caught:
                    return

    def close(self) -> None:
        """Watch no more."""
        self._inotify.close()

    async def _concerned(self) -> None:
        while not any(self._concerns(change) for change in await self._inotify.changes()):
            pass

    def _concerns(self, change: Change) -> bool:
        if change.directory is None or not change.name:
            return True
        return change.directory in self._whole or change.name in self._names.get(change.directory, ())

    def _add(self, directory: Path) -> None:
        try:
            self._inotify.add(directory, contents=directory in self._last or directory in self._whole)
        except PermissionError:
            self.unwatched.append(directory)
        except OSError as error:
            if error.errno not in _NOT_THERE:  # these are behind a name that is missing, and watched
                raise

    def _note(self, path: Path) -> None:
        directory, name = Path("/"), ""
        for directory, name in lookups(path):
            self._names.setdefault(directory, set()).add(name)
        self._last.add(directory)
        self._files.add(directory / name)
