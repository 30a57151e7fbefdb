"""Leave the session keyring, keyrings(7): who runs programs as another user would hand his own keys over with it.

A Kerberos ticket is often such a key. The C library has no function for it.
"""

from __future__ import annotations

import ctypes
import functools
import platform

_NUMBERS = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}  # of keyctl(2)
_JOIN_SESSION_KEYRING = 1  # linux/keyctl.h; without a name it makes a new one, which is empty


@functools.cache
def leave_session_keyring() -> None:
    """Have an empty one from now on, this process and those that it starts.

    A kernel or a container that refuses has no keyrings for programs either.
    """
    number = _NUMBERS.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), ctypes.c_int(_JOIN_SESSION_KEYRING), None)
