"""What a state transfer must not leave on a node: processes, files, listening ports."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import processes
from lab.mariadb import GRACE, Node
from lab.waiting import comes_true

_DATADIR_FILES = (
    "rsync_sst_complete",
    "rsync_tunnel_sst_complete",
    "rsyncd.conf",
    "sst_error",
    "sst_in_progress",
    "tables_flushed",
    "wsrep_sst.pid",
    "wsrep_sst_binlog.tar",
)
_TEMPORARY = "pytunnel-*"
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket."""

    address: str
    port: int


def leftovers(*nodes: Node, grace: float = GRACE) -> list[str]:
    """What is still on any of the nodes after `grace` seconds, in words; empty as soon as they are clean.

    `nodes` must be all nodes that run on their hosts.
    """
    comes_true(lambda: not _present(nodes), grace)
    return _present(nodes)


def listeners_seen_by(pid: int) -> set[Listener]:
    """The sockets that listen in the network namespace of the process `pid`."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == _LISTEN:
                found.add(_listener(local))
    return found


def _present(nodes: Iterable[Node]) -> list[str]:
    everyone = list(nodes)
    found = [text for node in everyone for text in (*_processes(node), *_files(node))]
    return found + [text for node in everyone if node.running for text in _ports(node, everyone)]


def _processes(node: Node) -> list[str]:
    server = node.pid if node.running else None
    others = [process for process in processes.mentioning(node.directory) if process.pid != server]
    return [f"{node.name}: process {process.pid}: {process.command}" for process in others]


def _files(node: Node) -> list[str]:
    found = [node.datadir / name for name in _DATADIR_FILES if (node.datadir / name).exists()]
    return [f"{node.name}: file {path}" for path in (*found, *node.tmpdir.glob(_TEMPORARY))]


def _ports(node: Node, everyone: Iterable[Node]) -> list[str]:
    known = {port for other in everyone for port in (other.ports.mysql, other.ports.group)}
    shared = node.host.namespace is None
    found = []
    for listener in listeners_seen_by(node.pid):
        # Where hosts share the machine's network, other programs listen too: only the node's own ports count.
        concerns_us = listener.port in (node.ports.sst, node.ports.ist) if shared else listener.port not in known
        if concerns_us and (not shared or listener.address == node.address):
            found.append(f"{node.name}: something listens on {listener.address} port {listener.port}")
    return found


def _listener(local: str) -> Listener:
    digits, _, port = local.partition(":")
    # The kernel prints the address as 32-bit words in the machine's byte order.
    words = (int(digits[start : start + 8], 16) for start in range(0, len(digits), 8))
    packed = b"".join(socket.htonl(word).to_bytes(4, "big") for word in words)
    return Listener(str(ipaddress.ip_address(packed)), int(port, 16))
