"""Record what passes a host's network, to look for clear text in it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import LabError
from lab.hosts import Host
from lab.programs import located
from lab.waiting import until

_START_LIMIT = 10.0
_STOP_LIMIT = 10.0
_BUFFER_KIB = 32_768


@dataclass(frozen=True, slots=True)
class Capture:
    """`file` holds the packets, whole, as tcpdump writes them; complete once the capture has ended."""

    file: Path

    def contains(self, text: str) -> bool:
        """Whether `text` passed within one packet."""
        return text.encode() in self.file.read_bytes()

    def size(self) -> int:
        """Bytes recorded."""
        return self.file.stat().st_size


@contextmanager
def capturing(host: Host, file: Path, other_than: Collection[int], interface: str = "any") -> Iterator[Capture]:
    """Record what passes on an interface of `host`, a namespace, or on any of them, while the context lasts.

    `other_than` are the TCP ports of traffic that isn't meant: Galera's own, which carries rows in clear text
    unless it is told otherwise. Raises LabError when tcpdump does not start or lost packets: nothing is proven then.
    """
    report = file.with_suffix(".tcpdump")
    words = [located("tcpdump"), "-i", interface, "-n", "-U", "-w", str(file), "-B", str(_BUFFER_KIB)]
    meant = " and ".join(f"not port {port}" for port in other_than)
    if os.geteuid() == 0:
        words += ["-Z", "root"]  # another user couldn't write the file
    with report.open("wb") as log:
        process = subprocess.Popen(host.command(*words, meant), stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: "listening on" in report.read_text(), _START_LIMIT, "tcpdump to listen")
        yield Capture(file)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_STOP_LIMIT)
    if "\n0 packets dropped by kernel" not in report.read_text():
        raise LabError(f"tcpdump lost packets: {report.read_text()}")
