"""The sockets that a child process has made for itself, to set what its program has no option for.

They are duplicated by pidfd_getfd(2). The kernel permits it to who might trace the child (ptrace(2), "access mode
checking"): its parent by default, but rarely inside a container, and not where SELinux confines both. Under a filter of
system calls (seccomp(2)) it is not tried, for the filter might end us.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pytunnel.system.processes import parent_of

_PIDFD_GETFD = 438  # asm-generic/unistd.h: one number for all architectures; glibc has the function since 2.36


def sockets_of(child: int) -> Iterator[socket.socket]:
    """Duplicates of the sockets of the process `child`, each open until the next one is asked for.

    Raises OSError: ESRCH, ENOENT or EBADF where the process is no child of ours, or has ended or closed one meanwhile,
    others where the system does not permit it.
    """
    if _is_filtered():
        raise PermissionError(errno.EPERM, "a filter of system calls is in force")
    process = os.pidfd_open(child)
    try:
        if parent_of(child) != os.getpid():  # asked while we hold the process: the number can't change hands unseen
            raise ProcessLookupError(errno.ESRCH, "not a child of this process")
        for entry in Path(f"/proc/{child}/fd").iterdir():
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=_duplicate(process, int(entry.name))) as duplicate:
                yield duplicate
    finally:
        os.close(process)


def _is_filtered() -> bool:
    """Whether seccomp restricts this process, from proc_pid_status(5)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return any(line.startswith("Seccomp:") and line.split()[1] != "0" for line in lines)


def _duplicate(process: int, descriptor: int) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int(process), ctypes.c_int(descriptor), ctypes.c_uint(0))
    duplicate = int(library.syscall(ctypes.c_long(_PIDFD_GETFD), *arguments))
    if duplicate < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return duplicate
