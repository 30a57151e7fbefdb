"""Run a program where pidfd_open(2) is refused, as older container runtimes and kernels do: ERRNO COMMAND..."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_PIDFD_OPEN = 434
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_REFUSE, _ALLOW = 0x00050000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse(number: int) -> None:
    """Let pidfd_open fail with this errno in this process, and in those that it becomes or starts."""
    steps = [(_LOAD, 0, 0, 0), (_EQUAL, 0, 1, _PIDFD_OPEN), (_RETURN, 0, 0, _REFUSE | number), (_RETURN, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
