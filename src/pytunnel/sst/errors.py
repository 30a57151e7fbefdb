"""The failures of a state transfer, each with the exit code that the server reports."""

from __future__ import annotations

from enum import IntEnum

from pytunnel.errors import PytunnelError


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
