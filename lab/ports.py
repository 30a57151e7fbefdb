"""The four TCP ports of a Galera node."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import ExitStack
from dataclasses import dataclass

SST_DEFAULT = 4444


@dataclass(frozen=True, slots=True)
class Ports:
    """Clients, group communication, incremental and full state transfers; the defaults are Galera's."""

    mysql: int = 3306
    group: int = 4567
    ist: int = 4568
    sst: int = SST_DEFAULT


def free_ports(address: str) -> Ports:
    """Four ports that nobody listens on at `address`, an IP."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    with ExitStack() as probes:
        found = []
        for _ in range(4):
            probe = probes.enter_context(socket.socket(family))
            probe.bind((address, 0))
            found.append(int(probe.getsockname()[1]))
    return Ports(*found)


def join_host_port(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
