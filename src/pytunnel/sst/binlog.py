"""The binlogs that go with a snapshot: the last few, as one tar file, and the index that names them.

Blocking; callers use a thread.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from pytunnel.sst.directories import BinlogPlace
from pytunnel.sst.errors import ExitCode, SstError

log = logging.getLogger(__name__)

ARCHIVE = "wsrep_sst_binlog.tar"

_UNPACKABLE = "the binlogs of {} can't be packed"
_BLOCK = 512  # bytes, the unit of st_blocks

# NAME.NUMBER, without anything that would lead elsewhere or break the index's lines.
_BINLOG_NAME = re.compile(r"[^/\x00-\x1f]+\.[0-9]+", re.ASCII)
_CHUNK = 1 << 20  # bytes

# Asked before each chunk that is copied: it raises what ends the copying. The largest binlogs take minutes.
GoOn = Callable[[], None]


def check_packing(place: BinlogPlace, directory: Path) -> None:
    """Find out whether `pack` could write an archive into `directory` now.

    Raises SstError when the index or a binlog is missing, and when there is too little space for a copy.
    """
    with _explained(_UNPACKABLE.format(place.index)):
        _check_space(directory, _size_of_chosen(place))


def pack(place: BinlogPlace, archive: BinaryIO, go_on: GoOn) -> list[str]:
    """Write the last `place.most` binlogs that the index names into `archive`; returns their names, oldest first.

    Raises SstError, also when the index or a binlog is missing, and what `go_on` raises.
    """
    with _explained(_UNPACKABLE.format(place.index)):
        chosen = _chosen(place)
        with tarfile.TarFile(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT, copybufsize=_CHUNK) as tar:
            for path in chosen:
                with path.open("rb") as binlog:
                    tar.addfile(tar.gettarinfo(arcname=path.name, fileobj=binlog), _Interruptible(binlog, go_on))
        return [path.name for path in chosen]


def unpack(place: BinlogPlace, archive: BinaryIO, go_on: GoOn) -> list[str]:
    """Put the binlogs of `archive` in the place of our old ones, and write the index anew; returns their names.

    The whole archive is looked through before anything is removed: it may hold plain binlogs alone, and they must find
    room. Where it can't be unpacked to its end, none of it stays, and the index names nothing.
    Raises SstError, and what `go_on` raises.
    """
    with _explained(f"the binlogs that the donor sent can't be unpacked into {place.base.parent}"):
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            members = tar.getmembers()
            _check_members(members)
            place.base.parent.mkdir(parents=True, exist_ok=True)
            freed = sum(path.lstat().st_blocks * _BLOCK for path in _old_binlogs(place))
            _check_space(place.base.parent, sum(member.size for member in members) - freed)
            _remove_old(place)
            _write_index(place, [])
            with _removed_on_failure() as begun:
                for member in members:
                    begun.append(place.base.with_name(member.name))
                    _extract(tar, member, begun[-1], go_on)
        names = [member.name for member in members]
        _write_index(place, names)
        return names


@dataclass(frozen=True, slots=True)
class _Interruptible:
    """A file to copy from, as tarfile does it."""

    file: IO[bytes]
    go_on: GoOn

    def read(self, size: int = -1) -> bytes:
        self.go_on()
        return self.file.read(size)


def _chosen(place: BinlogPlace) -> list[Path]:
    """The binlogs that go with a snapshot; raises SstError where two of them would have one name."""
    indexed = _read_index(place)
    chosen = indexed if place.most < 0 else indexed[max(0, len(indexed) - place.most) :]
    if len({path.name for path in chosen}) < len(chosen):
        raise SstError(f"{place.index} names two binlogs of one name in two directories; purge the older ones")
    return chosen


def _size_of_chosen(place: BinlogPlace) -> int:
    """The bytes of the binlogs that go with a snapshot. What is purged while we look, the index names no more."""
    chosen = _chosen(place)
    while True:
        try:
            return sum(path.stat().st_size for path in chosen)
        except FileNotFoundError:
            before, chosen = chosen, _chosen(place)
            if chosen == before:
                raise


def _check_space(directory: Path, needed: int) -> None:
    """Raise OSError, as the file system would later, where `needed` bytes have no room."""
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        text = f"{os.strerror(errno.ENOSPC)}: {needed} bytes are needed, {free} are free"
        raise OSError(errno.ENOSPC, text, str(directory))


def _read_index(place: BinlogPlace) -> list[Path]:
    lines = os.fsdecode(place.index.read_bytes()).split("\n")
    return [place.datadir / line for line in lines if line]


def _check_members(members: list[tarfile.TarInfo]) -> None:
    seen: set[str] = set()
    for member in members:
        if not member.isreg() or not _BINLOG_NAME.fullmatch(member.name):
            raise SstError(
                f"the donor's binlog archive holds {member.name!r}, which is no binlog: nothing of it was unpacked"
            )
        if member.name in seen:
            raise SstError(f"the donor's binlog archive holds {member.name!r} twice: nothing of it was unpacked")
        seen.add(member.name)


def _remove_old(place: BinlogPlace) -> None:
    """Remove our old binlogs. Those that the index names in another directory may stay: where the server no longer
    writes, we need not be allowed to (pytunnel.sst.confinement), and no index names them any more."""
    if place.index.exists():
        for path in _read_index(place):
            if _BINLOG_NAME.fullmatch(path.name):  # else the index is another file by mistake
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    log.warning("the old binlog %s can't be removed (%s); nothing uses it", path, error.strerror)
    for path in _old_binlogs(place):
        path.unlink(missing_ok=True)


def _old_binlogs(place: BinlogPlace) -> list[Path]:
    """The files of the binlogs' own directory that have our binlogs' name, whatever the index says."""
    name = re.compile(re.escape(place.base.name) + r"\.[0-9]")
    return [path for path in place.base.parent.iterdir() if name.match(path.name) and not path.is_dir()]


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, go_on: GoOn) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise SstError(f"the donor's binlog archive holds no content for {member.name!r}")
    with source, _create(path, member.mode & 0o666) as target:
        while chunk := source.read(_CHUNK):
            go_on()
            target.write(chunk)


@contextmanager
def _removed_on_failure() -> Iterator[list[Path]]:
    """Remove the files that are named in the list when what makes them does not come to its end."""
    begun: list[Path] = []
    try:
        yield begun
    except BaseException:
        for path in begun:
            with suppress(OSError):  # the reason why they could not be made says more
                path.unlink()
        raise


def _write_index(place: BinlogPlace, names: list[str]) -> None:
    place.index.parent.mkdir(parents=True, exist_ok=True)
    with _create(place.index, 0o660) as index:
        index.write(os.fsencode("".join(f"{place.written_directory}{name}\n" for name in names)))


@contextmanager
def _create(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A new file of this mode, and readable by us, instead of what is there; a link is replaced, not followed."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode | 0o600)
        yield file


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SstError(f"{what}: {error.filename} is missing", exit_code=ExitCode.MISSING) from error
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise SstError(f"{what}: {error.strerror or error}{place}") from error
    except tarfile.TarError as error:
        raise SstError(f"{what}: the archive is broken ({error})", exit_code=ExitCode.BROKEN_OFF) from error
