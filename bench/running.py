"""Programs of a measurement during a block: started, awaited until they listen, ended with all their children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench import BenchError, processes
from bench.credentials import Ends
from bench.peers import HOST, Peer, Route
from lab.ports import free_port

_LIMIT = 15.0  # seconds
_ROOT = Path(__file__).parents[1]
_LISTENING = "0A"  # the state as /proc/net/tcp writes it


@dataclass(frozen=True, slots=True)
class RunningTunnel:
    """Both ends of a tunnel; a client of it dials `port`. `client` and `server` are the roots of process trees."""

    port: int
    client: int
    server: int

    @property
    def roots(self) -> tuple[int, int]:
        """The process trees of both ends."""
        return self.client, self.server

    def cpu_seconds(self) -> float:
        """What both ends have used so far."""
        return processes.cpu_seconds(self.roots)


@contextmanager
def tunnel_to(target: int, peer: Peer, ends: Ends) -> Iterator[RunningTunnel]:
    """Both ends of `peer`'s tunnel, which leads to the port `target`."""
    port, between = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        to_client, to_server = Route(port, between, folder), Route(between, target, folder)
        client, server = peer.commands(to_client, to_server, ends)
        with running(server, between) as server_pid, running(client, port) as client_pid:
            yield RunningTunnel(port, client_pid, server_pid)


@contextmanager
def sink() -> Iterator[int]:
    """The program that takes and checks what is sent; its port."""
    (port,) = free_ports(1)
    with running([sys.executable, "-m", "bench.sink", str(port)], port):
        yield port


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[int]:
    """A program that listens at `port`, in a process group of its own; its process ID. Raises BenchError."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": f"{_ROOT}:{_ROOT / 'src'}"},
            process_group=0,
        )
        try:
            _wait_until_listening(process, port, log)
            yield process.pid
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(_LIMIT)
            processes.reap_orphans()


def free_ports(count: int) -> list[int]:
    """Ports of this host that nobody uses at this moment."""
    return [free_port(HOST) for _ in range(count)]


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _LIMIT
    while not _is_listening(port):
        if process.poll() is not None or time.monotonic() > deadline:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()
            raise BenchError(f"{process.args!r} does not listen at port {port}; it said: {said}")
        time.sleep(0.01)


def _is_listening(port: int) -> bool:
    """As the kernel has it: connecting in order to see would be a connection that the tunnel carries."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[3] == _LISTENING and int(row[1].partition(":")[2], 16) == port for row in rows)
