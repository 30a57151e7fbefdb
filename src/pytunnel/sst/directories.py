"""Where the server keeps its files: from what it was told to one set of paths.

On disk only links are followed, to know what lies below the datadir, and Galera's own files are looked for there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.galera import marked_places, named_credentials, named_places
from pytunnel.sst.manifest import ARIA, REDO, SYSTEM, UNDO, FileSet
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.sst.request import Request, ServerPaths

_SYSTEM_TMPDIR = Path("/tmp")  # noqa: S108 - where neither the server nor TMPDIR names another
_SYSTEM_FILES = ("ibdata1",)
_DEFAULT_BINLOG = "mysql-bin"
_BINLOG_SWITCHES = ("log-bin", "skip-log-bin", "disable-log-bin")


@dataclass(frozen=True, slots=True)
class BinlogPlace:
    """Where the binlogs are: `base` is their path without the number.

    `written_directory` is what stands before their names in the index, as the server writes it: "./", "sub/" or
    "/var/log/". Relative ones mean the datadir. `most` is how many go with a snapshot; negative: all.
    """

    datadir: Path
    base: Path
    index: Path
    written_directory: str
    most: int

    @property
    def directories(self) -> tuple[Path, Path]:
        """Where the binlogs are, and where their index is."""
        return self.base.parent, self.index.parent


@dataclass(frozen=True, slots=True)
class Layout:
    """The server's directories, complete paths all; `binlog` is None where it keeps none.

    `tmpdir` are the directories of temporary files in the server's order, `foreign` places of other things,
    certificates and what Galera's provider keeps: this node's own wherever they lie. `system_files` are the parts of
    InnoDB's system tablespace, as innodb-data-file-path names them.
    """

    datadir: Path
    data: Path
    redo: Path
    undo: Path
    aria: Path
    binlog: BinlogPlace | None = None
    tmpdir: tuple[Path, ...] = (_SYSTEM_TMPDIR,)
    foreign: tuple[Path, ...] = ()
    system_files: tuple[str, ...] = _SYSTEM_FILES

    def directory_of(self, files: FileSet) -> Path:
        """Where a set's files are."""
        return {SYSTEM: self.data, REDO: self.redo, UNDO: self.undo, ARIA: self.aria}[files]

    def nested_places(self) -> tuple[Path, ...]:
        """What lies below the datadir and belongs to no schema, as paths that begin with it: directories, and files
        of its top level."""
        places = [self.data, self.redo, self.undo, self.aria, *self.tmpdir, *self.foreign]
        if self.binlog is not None:
            places += self.binlog.directories
        return tuple(sorted({inside for place in places for inside in self._inside(place)}))

    def _inside(self, place: Path) -> Iterator[Path]:
        """The ways to `place` that lie below the datadir: the spelled one, and the one without links."""
        if self.datadir in place.parents:
            yield place
        root, real = _real(self.datadir), _real(place)
        if root in real.parents:
            yield self.datadir / real.relative_to(root)


def find_layout(request: Request, server: OptionGroup, sst: OptionGroup, credentials: Iterable[Path] = ()) -> Layout:
    """The directories of the server that made `request`; `server` and `sst` are its groups of the option files,
    `credentials` the files of certificates and keys, and directories of them.

    Our own options go first, then the environment, the server's command line, and the option files; for the tmpdir
    the environment goes last, as for the server itself.
    Raises SstError for a number of binlogs that is none, and a name of binlogs that is a directory's.
    """
    datadir = Path(os.path.normpath(request.datadir))
    everything = OptionGroup((*server.options, *request.mysqld_args))

    def place(field: Callable[[ServerPaths], str | None], files: FileSet) -> Path:
        spelled = _first(request, server, field, files.option)
        return _below(datadir, spelled) if spelled else datadir

    return Layout(
        datadir=datadir,
        data=place(lambda paths: paths.data_home, SYSTEM),
        redo=place(lambda paths: paths.redo, REDO),
        undo=place(lambda paths: paths.undo, UNDO),
        aria=place(lambda paths: paths.aria, ARIA),
        binlog=_binlog_place(request, server, datadir, _most_binlogs(sst, server)),
        tmpdir=_tmpdir(request, server, datadir),
        foreign=(
            *(_below(datadir, place) for place in named_places(everything)),
            *marked_places(datadir),
            *(
                place
                for path in (*credentials, *named_credentials(everything))
                for place in _holders(datadir, _below(datadir, path))
            ),
        ),
        system_files=_system_files(everything),
    )


def _first(
    request: Request, server: OptionGroup, field: Callable[[ServerPaths], str | None], option: str
) -> str | None:
    return (
        field(request.paths)
        or field(request.environment_paths)
        or OptionGroup(request.mysqld_args).get(option)
        or server.get(option)
    )


def _tmpdir(request: Request, server: OptionGroup, datadir: Path) -> tuple[Path, ...]:
    spelled = OptionGroup(request.mysqld_args).get("tmpdir") or server.get("tmpdir") or request.environment_paths.tmpdir
    return tuple(_below(datadir, name) for name in (spelled or "").split(":") if name) or (_SYSTEM_TMPDIR,)


def _system_files(server: OptionGroup) -> tuple[str, ...]:
    """The names in innodb-data-file-path, as in `ibdata1:10M;ibdata2:10M:autoextend`."""
    parts = (server.get("innodb-data-file-path") or "").split(";")
    return tuple(name for part in parts if (name := part.partition(":")[0].strip())) or _SYSTEM_FILES


def _below(datadir: Path, spelled: str | Path) -> Path:
    return Path(os.path.normpath(datadir / spelled))


def _holders(datadir: Path, path: Path) -> Iterator[Path]:
    """The directories that a file's path and the file itself lie in; in the datadir, the file alone."""
    for way in (path, _real(path)):
        directory = os.path.isdir(way)  # noqa: PTH112 - Path.is_dir fails where the path can't be looked at
        yield way if directory or _real(way.parent) == _real(datadir) else way.parent


def _real(path: Path) -> Path:
    """The path without links; unlike Path.resolve it takes links in a circle, which whoever uses the path tells of."""
    return Path(os.path.realpath(path))


def _binlog_place(request: Request, server: OptionGroup, datadir: Path, most: int) -> BinlogPlace | None:
    spelled = request.paths.log_bin or _configured_binlog(request, server)
    if spelled is None:
        return None
    directory, name = os.path.split(spelled)
    if name in ("", ".", ".."):  # nor does a server start with it
        raise SstError(
            f"log-bin is {spelled!r}, a directory; expected the path of the binlogs without their number, such as "
            f"{os.path.join(directory, name, _DEFAULT_BINLOG)}",  # noqa: PTH118 - a spelling, not yet a path
            exit_code=ExitCode.BAD_SETTING,
        )
    base = _below(datadir, spelled)
    index = _first(request, server, lambda paths: paths.log_bin_index, "log-bin-index")
    if index and "." not in os.path.basename(index):  # noqa: PTH119 - a spelling, not yet a path
        index += ".index"
    return BinlogPlace(
        datadir=datadir,
        base=base,
        index=_below(datadir, index) if index else base.with_name(base.name + ".index"),
        written_directory=spelled[: -len(name)] or "./",
        most=most,
    )


def _configured_binlog(request: Request, server: OptionGroup) -> str | None:
    """The binlogs' name as the options spell it, without an extension, which the server drops; None: they are off."""
    for group in (OptionGroup(request.mysqld_args), server):
        switches = [option for option in group.options if option.name in _BINLOG_SWITCHES]
        if switches and switches[-1].name != "log-bin":
            return None
        if switches:
            basename = _first(request, server, lambda paths: paths.log_basename, "log-basename")
            default = f"{basename}-bin" if basename else _DEFAULT_BINLOG
            return re.sub(r"(?<=[^/])\.[^/]*$", "", switches[-1].value or default)
    return None


def _most_binlogs(sst: OptionGroup, server: OptionGroup) -> int:
    text = sst.get("sst-max-binlogs") or server.get("sst-max-binlogs") or "1"
    if not re.fullmatch(r"-?[0-9]{1,9}", text, re.ASCII):
        raise SstError(
            f"sst-max-binlogs in [sst] is {text!r}; expected a number of binlogs, or -1 for all",
            exit_code=ExitCode.BAD_SETTING,
        )
    return int(text)
