"""The binlogs that go with a snapshot: the last few, as one tar file, and the index that names them.

Blocking; callers use a thread.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pytunnel.sst.directories import BinlogPlace
from pytunnel.sst.errors import ExitCode, SstError

log = logging.getLogger(__name__)

ARCHIVE = "wsrep_sst_binlog.tar"

# NAME.NUMBER, without anything that would lead elsewhere or break the index's lines.
_BINLOG_NAME = re.compile(r"[^/\x00-\x1f]+\.[0-9]+", re.ASCII)
_CHUNK = 1 << 20


def pack(place: BinlogPlace, archive: BinaryIO) -> list[str]:
    """Write the last `place.most` binlogs that the index names into `archive`; returns their names, oldest first.

    Raises SstError, also when the index or a binlog is missing.
    """
    with _explained(f"the binlogs of {place.index} can't be packed"):
        indexed = _read_index(place)
        chosen = indexed if place.most < 0 else indexed[max(0, len(indexed) - place.most) :]
        names = [path.name for path in chosen]
        if len(set(names)) < len(names):
            raise SstError(f"{place.index} names two binlogs of one name in two directories; purge the older ones")
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for path in chosen:
                with path.open("rb") as binlog:
                    tar.addfile(tar.gettarinfo(arcname=path.name, fileobj=binlog), binlog)
        return names


def unpack(place: BinlogPlace, archive: BinaryIO) -> list[str]:
    """Put the binlogs of `archive` in the place of our old ones, and write the index anew; returns their names.

    The whole archive is looked through before anything is removed: it may hold plain binlogs alone.
    Raises SstError.
    """
    with _explained(f"the binlogs that the donor sent can't be unpacked into {place.base.parent}"):
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            members = tar.getmembers()
            _check_members(members)
            _remove_old(place)
            place.base.parent.mkdir(parents=True, exist_ok=True)
            for member in members:
                _extract(tar, member, place.base.with_name(member.name))
        names = [member.name for member in members]
        _write_index(place, names)
        return names


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
    directory = place.base.parent
    for path in directory.iterdir() if directory.is_dir() else ():
        if re.match(re.escape(place.base.name) + r"\.[0-9]", path.name) and not path.is_dir():
            path.unlink(missing_ok=True)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise SstError(f"the donor's binlog archive holds no content for {member.name!r}")
    with source, _create(path, member.mode & 0o666) as target:
        shutil.copyfileobj(source, target, _CHUNK)


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
