"""What in a node's files no transfer could carry, or replace: found while nothing is locked and nothing is touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytunnel.sst.directories import Layout
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.manifest import FILE_SETS, REDO, SYSTEM, FileSet, list_schemas

_NEW_REDO = "#innodb_redo"  # the directory of MySQL 8.0.30 and later; in the datadir it travels as a schema does
_REMOTE_TABLE = ".isl"  # InnoDB's note of where a table is that was made with DATA DIRECTORY
_TABLESPACES = (".ibd", _REMOTE_TABLE)


@dataclass(frozen=True, slots=True)
class _Link:
    """A symbolic link and what it says."""

    path: Path
    target: Path

    def __str__(self) -> str:
        return f"{self.path} -> {self.target}"


def check_carriable(layout: Layout) -> None:
    """Find what a donor has and no rsync would carry: data behind links, tables and sets that lie elsewhere, what our
    user may not read.

    Raises SstError for the first of it, OSError when the directory of a set can't be read.
    """
    left_out = layout.nested_places()
    for files in FILE_SETS:
        _check_set(layout.directory_of(files), files)
    _check_named(layout)
    _check_present(layout)
    _check_top_level(layout.datadir)
    entries = list_schemas(layout.datadir, left_out, lenient=True)
    paths = [layout.datadir / os.fsdecode(entry.path) for entry in entries]
    links = [*_linked_directories(layout.datadir, left_out), *_escaping_links(layout.datadir, paths, left_out)]
    if links:
        raise SstError(
            f"{layout.datadir} holds symbolic links that lead out of it, whose data rsync would not carry "
            f"({len(links)}, the first is {links[0]}); put the data into the datadir, or use "
            "another SST method",
            exit_code=ExitCode.BAD_SETTING,
        )
    remote = [path for path in paths if path.suffix == _REMOTE_TABLE]
    if remote:
        table = remote[0].relative_to(layout.datadir).with_suffix("")
        raise SstError(
            f"the table {table} was made with DATA DIRECTORY and lies outside of the datadir, so rsync would not carry "
            f"it ({len(remote)} such tables; {remote[0]} names its place); make it anew without DATA DIRECTORY, or use "
            "another SST method",
            exit_code=ExitCode.BAD_SETTING,
        )
    _check_readable([*_set_files(layout), *paths])


def check_replaceable(layout: Layout) -> None:
    """Find what a joiner has and no transfer can replace; raises SstError."""
    links = _linked_directories(layout.datadir, layout.nested_places())
    if links:
        raise SstError(
            f"{links[0].path} is a symbolic link to the directory {links[0].target}, which no transfer can replace "
            f"({len(links)} such links; nothing was touched); move the directory to where the link is",
            exit_code=ExitCode.BAD_SETTING,
        )
    dangling = _dangling_links(layout)
    if dangling:
        raise SstError(
            f"{dangling[0].path} is a symbolic link to {dangling[0].target}, which is not there, and no transfer can "
            f"put a schema in its place ({len(dangling)} such links; nothing was touched); is a disk not mounted? Move "
            "the directory to where the link is, or remove the link",
            exit_code=ExitCode.BAD_SETTING,
        )


def _check_set(directory: Path, files: FileSet) -> None:
    if not directory.is_dir():
        raise SstError(f"the directory of the {files.title}, {directory}, is not there", exit_code=ExitCode.MISSING)
    for link in _links(path for path in sorted(directory.iterdir()) if files.holds(path.name)):
        raise SstError(
            f"{link.path} ({files.title}) is a symbolic link to {link.target}, and rsync would carry the link "
            "alone; move the file to where the link is, or name the directory that it is in as the set's own",
            exit_code=ExitCode.BAD_SETTING,
        )


def _check_named(layout: Layout) -> None:
    """Every part of InnoDB's system tablespace has to be one that is sent."""
    others = [name for name in layout.system_files if "/" in name or not SYSTEM.holds(name)]
    if others:
        raise SstError(
            f"innodb-data-file-path names {others[0]}, and of the {SYSTEM.title} this SST method carries "
            f"{', '.join(SYSTEM.patterns)} in the directory of {SYSTEM.option} alone; use another SST method",
            exit_code=ExitCode.BAD_SETTING,
        )


def _check_present(layout: Layout) -> None:
    """No InnoDB starts without these sets: a donor's are somewhere, or under other names, and would not be sent."""
    for files in (SYSTEM, REDO):
        directory = layout.directory_of(files)
        found = any(files.holds(path.name) for path in directory.iterdir())
        if not found and not (files is REDO and directory == layout.datadir and (directory / _NEW_REDO).is_dir()):
            raise SstError(
                f"{directory} holds no file of the {files.title} ({', '.join(files.patterns)}), and without it the "
                f"joiner's server would not start; {files.option} has to name the directory that it is in, and its "
                "files need these names",
                exit_code=ExitCode.BAD_SETTING,
            )


def _set_files(layout: Layout) -> Iterator[Path]:
    for files in FILE_SETS:
        for path in sorted(layout.directory_of(files).iterdir()):
            if files.holds(path.name) and path.is_file():
                yield path


def _check_readable(paths: Iterable[Path]) -> None:
    denied = [path for path in paths if not _is_readable(path)]
    if denied:
        raise SstError(
            f"the server's user may not read {denied[0]}, so rsync could not carry it ({len(denied)} such files and "
            "directories); give it to the server's user, or move it out of the datadir",
            exit_code=ExitCode.BAD_SETTING,
        )


def _is_readable(path: Path) -> bool:
    """Whether rsync could read a file, or enter and list a directory; what has vanished it passes over."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return True
    if stat.S_ISLNK(mode):
        return True
    wanted = os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK
    return os.access(path, wanted) or not os.path.lexists(path)


def _check_top_level(datadir: Path) -> None:
    """MariaDB has no tablespaces there; MySQL has general ones, and since version 8 its data dictionary."""
    found = [
        path
        for path in sorted(datadir.iterdir())
        if path.suffix in _TABLESPACES and not path.is_dir() and not any(files.holds(path.name) for files in FILE_SETS)
    ]
    if found:
        raise SstError(
            f"{found[0]} is a tablespace outside of the schemas, as MySQL's general tablespaces and MySQL 8's data "
            f"dictionary are, which this SST method does not carry ({len(found)} such files); use another SST method",
            exit_code=ExitCode.BAD_SETTING,
        )


def _links(paths: Iterable[Path]) -> Iterator[_Link]:
    for path in paths:
        if path.is_symlink():
            with suppress(OSError):  # the server has removed it, or put a file in its place, this moment
                yield _Link(path, path.readlink())


def _linked_directories(datadir: Path, left_out: Collection[Path]) -> list[_Link]:
    """Links of the top level to directories: the server takes them for schemas, rsync for files."""
    return [link for link in _links(sorted(datadir.iterdir())) if link.path.is_dir() and link.path not in left_out]


def _dangling_links(layout: Layout) -> list[_Link]:
    """Links of the top level to nowhere that may stand for a schema. The name of none has a dot, which the server
    writes as @002e, and the files of the sets are replaced."""
    left_out = layout.nested_places()
    return [
        link
        for link in _links(sorted(layout.datadir.iterdir()))
        if not (
            "." in link.path.name or link.path in left_out or any(files.holds(link.path.name) for files in FILE_SETS)
        )
        and not os.path.exists(link.path)  # noqa: PTH110 - Path.exists fails where the target can't be looked at
    ]


def _escaping_links(datadir: Path, paths: Iterable[Path], left_out: Collection[Path]) -> Iterator[_Link]:
    """Links whose data doesn't travel with them: only relative ones into a schema lead to the same on the joiner."""
    schemas = {path for path in paths if path.parent == datadir}
    for link in _links(paths):
        place = Path(os.path.normpath(link.path.parent / link.target))
        ways = {place, *place.parents}
        if link.target.is_absolute() or not ways & schemas or ways & set(left_out):
            yield link
