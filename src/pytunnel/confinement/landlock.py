"""Landlock: the kernel refuses this process, and all that it starts, what its rules don't permit; for good.

The kernel's three calls by ctypes; glibc has no functions for them, and the packages for Python know neither ports nor
signals. What an older kernel can't restrict stays free there: a kernel's ABI number says what it can.
Documentation/userspace-api/landlock.rst of the kernel is the source of all numbers here.
"""

from __future__ import annotations

import ctypes
import enum
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytunnel.confinement.errors import ConfinementError

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_ASK_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2
_BIND, _CONNECT = 1 << 0, 1 << 1
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1


class Access(enum.IntFlag):
    """What can be done with files: LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ = Access.READ_FILE | Access.READ_DIR
# A kernel that can't restrict moving between directories (REFER, ABI 1) refuses it always; it is no right of its own.
WRITE = (
    Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_CHAR
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.MAKE_SOCK
    | Access.MAKE_FIFO
    | Access.MAKE_BLOCK
    | Access.MAKE_SYM
    | Access.REFER
)
EVERYTHING = READ | WRITE | Access.EXECUTE | Access.IOCTL_DEV

_OF_FILES = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
_SINCE = {Access.REFER: 2, Access.TRUNCATE: 3, Access.IOCTL_DEV: 5}  # ABI; all others are of the first
_PORTS_SINCE, _SCOPES_SINCE = 4, 6


@dataclass(frozen=True, slots=True)
class Rules:
    """What is permitted. `handled` are the kinds of access that need a permission; the others stay free.

    `paths`: what may be done with a file, or with everything below a directory; one that does not exist is left out.
    `bind` and `connect` are TCP ports, None for every one; to bind port 0 is to take a free one. `signals` and
    `abstract_sockets` say whether processes and abstract Unix sockets outside of this confinement can be reached.
    """

    handled: Access
    paths: Mapping[Path, Access] = field(default_factory=dict)
    bind: frozenset[int] | None = None
    connect: frozenset[int] | None = None
    signals: bool = True
    abstract_sockets: bool = True


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


def kernel_abi() -> int:
    """What this kernel's Landlock can do, as a number; 0 where there is none, or a container hides it."""
    return max(0, _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION)))


def restrict(rules: Rules, abi: int) -> None:
    """Put the rules into force, as far as `abi` of the kernel goes, for the calling thread and all that it starts.

    privileges.forbid_new_privileges must come before. Raises ConfinementError.
    """
    known = _known(rules.handled, abi)
    attributes = _RulesetAttributes(known, 0, 0)
    if abi >= _PORTS_SINCE:
        attributes.handled_access_net = _BIND * (rules.bind is not None) | _CONNECT * (rules.connect is not None)
    if abi >= _SCOPES_SINCE:
        attributes.scoped = _ABSTRACT_SOCKETS * (not rules.abstract_sockets) | _SIGNALS * (not rules.signals)
    size = ctypes.sizeof(attributes) if abi >= _SCOPES_SINCE else 16 if abi >= _PORTS_SINCE else 8
    ruleset = _checked(_call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for path, access in rules.paths.items():
            _permit_path(ruleset, path, access & known)
        if abi >= _PORTS_SINCE:
            _permit_ports(ruleset, rules.bind or (), _BIND)
            _permit_ports(ruleset, rules.connect or (), _CONNECT)
        _checked(_call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def restricted(rules: Rules, abi: int) -> list[str]:
    """What the rules restrict on a kernel with `abi`, as words for a log."""
    ports = abi >= _PORTS_SINCE and not (rules.bind is None and rules.connect is None)
    files = "files" if rules.handled & READ else "writing files"
    return [files, *["TCP ports"] * ports, *["signals"] * (abi >= _SCOPES_SINCE and not rules.signals)]


def _known(access: Access, abi: int) -> Access:
    for kind, since in _SINCE.items():
        if abi < since:
            access &= ~kind
    return access


def _permit_path(ruleset: int, path: Path, access: Access) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # what is not there, or can't be reached by us, needs no permission
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_FILES
        if access:
            _add(ruleset, _PATH_BENEATH, _PathBeneath(access, descriptor))
    finally:
        os.close(descriptor)


def _permit_ports(ruleset: int, ports: Iterable[int], access: int) -> None:
    for port in ports:
        _add(ruleset, _NET_PORT, _NetPort(access, port))


def _add(ruleset: int, kind: int, rule: _PathBeneath | _NetPort) -> None:
    _checked(_call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(kind), ctypes.byref(rule), ctypes.c_uint32(0)))


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return int(library.syscall(ctypes.c_long(number), *arguments))


def _checked(result: int) -> int:
    if result < 0:
        raise ConfinementError(f"Landlock refused our rules: {os.strerror(ctypes.get_errno())}")
    return result
