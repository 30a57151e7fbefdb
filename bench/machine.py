"""The machine that the figures belong to, and the versions of the programs on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from OpenSSL import SSL

from pytunnel import __version__

_LIMIT = 10.0  # seconds
_VERSION_COMMANDS = {
    "socat": ("socat", "-V"),
    "stunnel": ("stunnel", "-version"),
    "haproxy": ("haproxy", "-v"),
    "rsync": ("rsync", "--version"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What it takes to compare figures with those of another machine."""

    date: str
    processor: str
    cores: int
    memory_gb: float
    system: str
    kernel: str
    load: float
    versions: dict[str, str]


def describe() -> Machine:
    """This machine, now."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_field("/proc/cpuinfo", r"model name\s*: (.*)"),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(int(_field("/proc/meminfo", r"MemTotal:\s*(\d+)") or 0) / 1e6, 1),
        system=_field("/etc/os-release", r'PRETTY_NAME="(.*)"'),
        kernel=platform.release(),
        load=round(os.getloadavg()[0], 2),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    openssl = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode().split()[1]
    found = {"pytunnel": __version__, "Python": platform.python_version(), "OpenSSL of pytunnel": openssl}
    for name, command in _VERSION_COMMANDS.items():
        if shutil.which(command[0]) is not None:
            found[name] = _version(command)
    return found


def _version(command: tuple[str, ...]) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT, check=False
    )
    match = re.search(r"(?:version|stunnel)\s+(\d[\w.+~-]*)", done.stdout + done.stderr)
    return match[1] if match is not None else "unknown"


def _field(path: str, pattern: str) -> str:
    match = re.search(pattern, Path(path).read_text())
    return match[1] if match is not None else ""
