"""Run a program where a system call is refused, as container runtimes and old kernels do: CALL ERRNO COMMAND..."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_CALLS = {"pidfd_open": 434, "pidfd_getfd": 438, "unshare": 97 if platform.machine() == "aarch64" else 272}
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_REFUSE, _ALLOW = 0x00050000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse(call: int, number: int) -> None:
    """Let a call fail with this errno in this process, and in those that it becomes or starts."""
    steps = [(_LOAD, 0, 0, 0), (_EQUAL, 0, 1, call), (_RETURN, 0, 0, _REFUSE | number), (_RETURN, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for setting in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*setting) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(_CALLS[sys.argv[1]], int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])
