"""Put keys and certificates into files: keys for their owner alone, and nothing overwritten by accident."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pytunnel.certs.errors import CertsError

_PRIVATE, _PUBLIC = 0o600, 0o644
_GROUP_MAY_READ = 0o040


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write; a `private` one is for its owner alone."""

    path: Path
    text: str
    private: bool = False


def write_files(files: Sequence[NewFile], *, force: bool = False) -> None:
    """Write all of `files`, or none. Raises CertsError, also where one exists, unless `force` is set.

    With `force` each file is replaced whole; a link is replaced, not followed. What replaces a file belongs to the same
    user and group, and a key that the group could read stays readable to it: a server reads on what it read before.
    """
    kept: list[Path] = []
    with ExitStack() as undo:
        if force:
            _refuse_directories(files)
            ready = [(_write(_beside(file.path), file, undo, like=file.path), file.path) for file in files]
            for written, path in ready[:-1]:
                kept += _keep(path, undo)
                _replace(written, path)
            for written, path in ready[-1:]:  # behind it nothing can fail
                _replace(written, path)
        else:
            for file in files:
                _write(file.path, file, undo)
        undo.pop_all()
    for path in kept:
        _remove(path)


def _write(path: Path, file: NewFile, undo: ExitStack, *, like: Path | None = None) -> Path:
    """Write the file's text to the new `path`, with the owner of `like`; `undo` then removes it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _PRIVATE)
        undo.callback(partial(path.unlink, missing_ok=True))
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(file.text)
            opened.flush()
            _set_access(descriptor, file, like)
            os.fsync(descriptor)
    except FileExistsError as error:
        raise CertsError(
            f"{file.path} exists and was left as it is; give --force to replace it, or --out for another name"
        ) from error
    except OSError as error:
        raise CertsError(f"{file.path} can't be written: {error.strerror}; nothing was written") from error
    return path


def _set_access(descriptor: int, file: NewFile, like: Path | None) -> None:
    mode = _PRIVATE if file.private else _PUBLIC
    old = like.lstat() if like is not None and os.path.lexists(like) else None
    if old is not None and stat.S_ISREG(old.st_mode):
        os.fchown(descriptor, old.st_uid, old.st_gid)
        if not old.st_mode & stat.S_IRWXO:  # where everyone could read it, nobody had meant the group
            mode |= old.st_mode & _GROUP_MAY_READ
    os.fchmod(descriptor, mode)


def _refuse_directories(files: Sequence[NewFile]) -> None:
    for path in (file.path for file in files):
        if path.is_dir() and not path.is_symlink():
            raise CertsError(f"{path} can't be replaced: it is a directory; nothing was written")


def _keep(path: Path, undo: ExitStack) -> list[Path]:
    """Give what is at `path`, if anything, a second name, which is returned; `undo` then makes it all as it was."""
    if not os.path.lexists(path):
        undo.callback(partial(path.unlink, missing_ok=True))
        return []
    kept = _beside(path)
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError as error:
        raise CertsError(f"{path} can't be kept while it is replaced: {error.strerror}; nothing was changed") from error
    undo.callback(partial(_put_back, kept, path))
    return [kept]


def _replace(written: Path, path: Path) -> None:
    try:
        written.replace(path)
    except OSError as error:
        raise CertsError(f"{path} can't be replaced: {error.strerror}; all files are as they were") from error


def _put_back(kept: Path, path: Path) -> None:
    try:
        kept.replace(path)
    except OSError as error:
        raise CertsError(f"{path} can't be put back: {error.strerror}; what it was is {kept}") from error
    _remove(kept)  # a rename of a file to itself does nothing


def _remove(kept: Path) -> None:
    try:
        kept.unlink(missing_ok=True)
    except OSError as error:
        raise CertsError(f"{kept}, which was replaced, can't be removed: {error.strerror}; remove it") from error


def _beside(path: Path) -> Path:
    """A name that nothing has, in the same directory, so that a rename puts it in place."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")
