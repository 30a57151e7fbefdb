"""The failures of a state transfer, each with the exit code that the server reports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import IntEnum
from typing import TypeVar

from pytunnel.errors import PytunnelError

_Kind = TypeVar("_Kind", bound=BaseException)


class ExitCode(IntEnum):
    """Exit codes of the script; the server shows them as an errno, hence the values."""

    MISSING = 2
    PORT_TAKEN = 16
    BAD_SETTING = 22
    BROKEN_OFF = 32
    PROTOCOL = 71
    ALREADY_RUNNING = 114
    OTHER = 255


class SstError(PytunnelError):
    """A state transfer that cannot start or go on; `exit_code` tells the server why."""

    def __init__(self, message: str, *, exit_code: int = ExitCode.OTHER) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)


def known(error: BaseException, kind: type[_Kind]) -> Iterator[_Kind]:
    """Every error of a kind in a tree of exception groups, which nurseries raise; the first one ended the rest."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from known(each, kind)
    elif isinstance(error, kind):
        yield error


def refused(error: OSError) -> str:
    """What the system refused: its file, however it was named, and the reason."""
    named = isinstance(error.filename, str | bytes)
    return f"{os.fsdecode(error.filename) if named else 'the system refused'}: {error.strerror or error}"
