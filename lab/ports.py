"""TCP ports: the four of a Galera node, and free ones."""

from __future__ import annotations

import errno
import secrets
import socket
from collections import deque
from dataclasses import dataclass

SST_DEFAULT = 4444

# Below those that Linux takes by itself for who asks for any port and for the near ends of connections.
_GIVEN = range(20_000, 32_000)
# Each is a descriptor. The oldest goes: what was to listen there does so by then.
_MOST_CLAIMS = 50
_claims: deque[socket.socket] = deque()


@dataclass(frozen=True, slots=True)
class Ports:
    """Clients, group communication, incremental and full state transfers; the defaults are Galera's."""

    mysql: int = 3306
    group: int = 4567
    ist: int = 4568
    sst: int = SST_DEFAULT


def free_ports(address: str) -> Ports:
    """Four ports that nobody listens on at `address`."""
    return Ports(*(free_port(address) for _ in range(4)))


def free_port(address: str) -> int:
    """A port that nobody listens on at `address`, and that no other caller on this machine is told meanwhile.

    A program needs a moment until it listens there. Tests that run at the same time must not be given the same port.
    """
    while True:
        port = secrets.choice(_GIVEN)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0pytunnel-port-{port}")
            _probe(address, port)
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        _claims.append(claim)
        if len(_claims) > _MOST_CLAIMS:
            _claims.popleft().close()
        return port


def _probe(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address.strip("[]"), port))


def join_host_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
