"""Files that a donor has put into our directories: read and remove them without trusting anything of them."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from pytunnel.sst.errors import SstError

_LARGEST_NOTE = 4096  # bytes; the state file and the plan have less than two hundred


def open_received(path: Path) -> BinaryIO:
    """Open a file for reading, if it is one: a link is not followed, a pipe or a device is not waited for.

    Raises SstError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SstError(f"{path.name}, which the donor sent, can't be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SstError(f"{path.name}, which the donor sent, is no file")
    return os.fdopen(descriptor, "rb")


def read_note(path: Path) -> str:
    """The text of a small file; raises SstError when it is none."""
    with open_received(path) as file:
        content = file.read(_LARGEST_NOTE + 1)
    if len(content) > _LARGEST_NOTE or not content.isascii():
        raise SstError(f"{path.name}, which the donor sent, is not the short text that it should be")
    return content.decode("ascii")


def remove(path: Path) -> None:
    """Remove what is there, even if it should not be a directory and is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
