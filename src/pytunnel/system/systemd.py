"""What systemd hands to a service, and what it is told: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).

The protocols are a few variables of the environment, and datagrams of lines NAME=VALUE. Without systemd all of this
does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass

_FIRST = 3  # SD_LISTEN_FDS_START
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Notifier:
    """Tells the service manager how this process is; `address` is its socket, None where there is no manager.

    `watchdog` is how long the manager waits for a sign of life, in seconds; None for ever.
    """

    address: str | None = None
    watchdog: float | None = None

    def ready(self, status: str) -> None:
        """The start, or reading the configuration again, is over; `status` is one line for people."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Files are read again; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reading the certificates again")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._tell(f"STOPPING=1\nSTATUS={status}")

    def alive(self) -> None:
        """A sign of life, for the watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, lines: str) -> None:
        if self.address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            # The manager may be gone, or busy: that is no reason for a tunnel to end or to wait.
            sock.sendto(lines.encode(), self.address)


def take_notifier(environment: MutableMapping[str, str]) -> Notifier:
    """The notifier that the manager's variables describe; they are taken away, no program that we start has a say."""
    address = environment.pop("NOTIFY_SOCKET", None)
    interval, process = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", None)
    meant = process is None or process == str(os.getpid())
    watchdog = int(interval) / _MICROSECONDS if meant and interval.isdigit() and int(interval) else None
    if address is None or not address.startswith(("/", "@")):
        return Notifier()
    return Notifier("\0" + address[1:] if address.startswith("@") else address, watchdog)


def passed_sockets(environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """The descriptors passed to this very process, each with its name; no program that we start inherits them."""
    process, count = environment.get("LISTEN_PID"), environment.get("LISTEN_FDS", "")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if process != str(os.getpid()) or not count.isdigit():
        return []
    passed = range(_FIRST, _FIRST + int(count))
    for descriptor in passed:
        os.set_inheritable(descriptor, False)
    return [(names[number] if number < len(names) else "", each) for number, each in enumerate(passed)]
