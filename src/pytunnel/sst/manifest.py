"""Which files a snapshot is made of, and in which streams they travel.

Listing reads the file system; planning is arithmetic on the list. File names are bytes here: a schema's or table's
name may hold anything but a slash and a zero byte.
"""

from __future__ import annotations

import fnmatch
import heapq
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PRIVATE_PREFIX = "pytunnel-"
"""How the names of our own directories begin, which hold a transfer's secret. No server names a schema so: it writes
the dash of one as @002d."""

FOREIGN_DIRECTORIES = ("lost+found", ".zfs", ".snapshot", ".fseventsd", ".Trashes", f"{PRIVATE_PREFIX}*")
"""Patterns of the top-level directories of a datadir that belong to its file system or to us, not to the database."""

RUN = 4 * 1024**3
"""Bytes that one rsync run sends: what a run has brought to its end needs no second look after a later one was cut,
and a run's start costs a tenth of a second."""

PRIVILEGES = b"mysql"
"""The schema without which no server starts: deleted first and sent last, so that none starts on half a database."""


_VANISHED = (FileNotFoundError, NotADirectoryError)
_WORTH = 8 * 1024 * 1024  # bytes: about what a node carries while two rsyncs start and shake hands


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files of the top level of one directory, which the server's `option` names. `suffix` is that of the rsync module
    they go to."""

    title: str
    suffix: str
    patterns: tuple[str, ...]
    option: str

    def holds(self, name: str) -> bool:
        """Whether a file of this name is one of the set's."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)


SYSTEM = FileSet("InnoDB system tablespace", "-data_dir", ("ibdata*", "ib_lru_dump"), "innodb-data-home-dir")
REDO = FileSet("redo log", "-log_dir", ("ib_logfile[0-9]*",), "innodb-log-group-home-dir")
UNDO = FileSet("undo tablespaces", "-undo_dir", ("undo*",), "innodb-undo-directory")
ARIA = FileSet("Aria log", "-aria_log", ("aria_log_control", "aria_log.*"), "aria-log-dir-path")
FILE_SETS = (SYSTEM, REDO, UNDO, ARIA)


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file (or directory or link, of size 0) of a schema: its size in bytes, its path below the datadir."""

    size: int
    path: bytes


@dataclass(frozen=True, slots=True)
class Amount:
    """How much there is to move."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.bytes + other.bytes, self.files + other.files)


def list_schemas(datadir: Path, left_out: Iterable[Path] = (), *, lenient: bool = False) -> list[Entry]:
    """All that lies in the top-level directories of `datadir`, the directories themselves included.

    `left_out` are places below the datadir that hold something else than schemas. What vanishes while the list is made
    was temporary, or was dropped before the tables were locked. Raises OSError when a directory can't be read, unless
    `lenient`: then it is listed alone, without what it holds.
    """
    skipped = {os.fsencode(path) for path in left_out}
    passed_over = (*_VANISHED, PermissionError) if lenient else _VANISHED
    entries: list[Entry] = []
    with os.scandir(os.fsencode(datadir)) as top:
        schemas = sorted(
            item.name
            for item in top
            if item.is_dir(follow_symlinks=False) and not _is_foreign(item.name) and item.path not in skipped
        )
    for schema in schemas:
        entries.extend(_walk(os.fsencode(datadir), schema, skipped, passed_over))
    return entries


def _is_foreign(name: bytes) -> bool:
    return any(fnmatch.fnmatchcase(os.fsdecode(name), pattern) for pattern in FOREIGN_DIRECTORIES)


def measure(directory: Path, files: FileSet) -> Amount:
    """How many files of a set lie in `directory`, and their bytes."""
    total = Amount()
    with os.scandir(directory) as items:
        for item in items:
            if item.is_file(follow_symlinks=False) and files.holds(item.name):
                total += Amount(item.stat(follow_symlinks=False).st_size, 1)
    return total


def total(entries: Iterable[Entry]) -> Amount:
    """The sum of a list; directories count as files of no bytes, as rsync counts them."""
    sizes = [entry.size for entry in entries]
    return Amount(sum(sizes), len(sizes))


def keep_back(entries: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Part the files that go first from those that go last, the privilege tables."""
    first: list[Entry] = []
    last: list[Entry] = []
    for entry in entries:
        (last if entry.path.split(b"/", 1)[0] == PRIVILEGES else first).append(entry)
    return first, last


def worthwhile(entries: Iterable[Entry], most: int) -> int:
    """How many streams, `most` at the most, have more to carry than their connection costs."""
    return min(most, 1 + total(entries).bytes // _WORTH)


def plan_streams(entries: Sequence[Entry], count: int) -> list[list[Entry]]:
    """Divide `entries` into at most `count` streams of nearly equal bytes, none of them empty.

    Largest first, each to the stream that has the least so far (Graham's rule: at worst a third over the best plan).
    Within a stream the files are in the order of their paths, so that a directory comes before what it holds.
    """
    streams: list[list[Entry]] = [[] for _ in range(max(1, min(count, len(entries))))]
    loads = [(0, 0, number) for number in range(len(streams))]
    for entry in sorted(entries, key=lambda entry: (-entry.size, entry.path)):
        load, files, number = heapq.heappop(loads)
        streams[number].append(entry)
        heapq.heappush(loads, (load + entry.size, files + 1, number))
    return [sorted(stream, key=lambda entry: entry.path) for stream in streams if stream]


def runs(stream: Iterable[Entry], most: int = RUN) -> list[list[Entry]]:
    """Cut a stream into runs of at most `most` bytes, in order; a larger file is one by itself."""
    found: list[list[Entry]] = []
    load = 0
    for entry in stream:
        if not found or load + entry.size > most:
            found.append([])
            load = 0
        found[-1].append(entry)
        load += entry.size
    return found


def file_list(entries: Iterable[Entry]) -> bytes:
    """The text for `rsync --files-from --from0`; `./` keeps a name that begins with `#` or `-` a name."""
    return b"".join(b"./" + entry.path + b"\0" for entry in entries)


def _walk(root: bytes, relative: bytes, skipped: set[bytes], passed_over: tuple[type[OSError], ...]) -> Iterator[Entry]:
    yield Entry(0, relative)
    for item in _scan(root + b"/" + relative, passed_over):
        path = relative + b"/" + item.name
        if item.path in skipped:
            continue
        try:
            status = item.stat(follow_symlinks=False)
        except passed_over:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(root, path, skipped, passed_over)
        elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield Entry(status.st_size if stat.S_ISREG(status.st_mode) else 0, path)


def _scan(directory: bytes, passed_over: tuple[type[OSError], ...]) -> list[os.DirEntry[bytes]]:
    """What lies in a directory; nothing where one of these errors says that it can't be told."""
    try:
        with os.scandir(directory) as items:
            return list(items)
    except passed_over:
        return []
