"""Give up what no tunnel needs: core dumps, which would put keys on a disk, and new privileges by setuid programs."""

from __future__ import annotations

import ctypes
import os
import resource

from pytunnel.confinement.errors import ConfinementError

# prctl(2), linux/prctl.h
_SET_DUMPABLE = 4
_SET_NO_NEW_PRIVILEGES = 38


def forbid_core_dumps() -> None:
    """No core file of this process, and no look into its memory by other processes of the same user.

    The limit alone would not do: a core_pattern that is a pipe knows no limit. It is for the programs that we start.
    Raises ConfinementError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_SET_DUMPABLE, 0, "core dumps")


def forbid_new_privileges() -> None:
    """No program that is started from here on gets more rights by its file's mode (setuid) or capabilities.

    Raises ConfinementError.
    """
    _prctl(_SET_NO_NEW_PRIVILEGES, 1, "new privileges")


def _prctl(option: int, value: int, what: str) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise ConfinementError(f"the kernel did not let us forbid {what}: {os.strerror(ctypes.get_errno())}")
