"""Whether the server is a cluster's node at all, and what it will announce to the others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytunnel.doctor.files import is_there
from pytunnel.doctor.findings import Finding, fault, ok, warning
from pytunnel.doctor.server import ServerVersion
from pytunnel.sst.address import Address, parse_address
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.tls.identity import parse_address as parse_ip

CLUSTER, ADDRESS = "cluster", "announced address"

_ANY = ("", "*", "0.0.0.0", "::")  # noqa: S104 - recognised, not bound to


@dataclass(frozen=True, slots=True)
class Announced:
    """The address that other nodes are told for state transfers, and the option that it comes from."""

    address: Address
    source: str


def examine_membership(mysqld: OptionGroup, version: ServerVersion | None) -> list[Finding]:
    """The same as check_membership, with a look for the provider's file."""
    provider = Path(mysqld.get("wsrep-provider") or "none")
    return check_membership(mysqld, version, provider_exists=is_there(provider, unknown=True))


def check_membership(mysqld: OptionGroup, version: ServerVersion | None, *, provider_exists: bool) -> list[Finding]:
    """Is wsrep on, with a provider and other nodes to join? A server that is no node never asks for a snapshot."""
    found = []
    if not _wsrep_is_on(mysqld, version):
        found.append(fault(CLUSTER, "wsrep_on is off: the server runs alone", "set wsrep_on=ON in [mysqld]"))
    provider = mysqld.get("wsrep-provider") or "none"
    if provider == "none":
        found.append(
            fault(CLUSTER, "no wsrep_provider is set", "set wsrep_provider in [mysqld] to the path of libgalera_smm.so")
        )
    elif not provider_exists:
        found.append(
            fault(CLUSTER, f"wsrep_provider={provider} is not there", "install galera-4, or correct wsrep_provider")
        )
    others = members(mysqld)
    if not mysqld.get("wsrep-cluster-address"):
        advice = "set wsrep_cluster_address=gcomm:// with the addresses of all nodes behind it"
        found.append(fault(CLUSTER, "wsrep_cluster_address is not set: there is no cluster to join", advice))
    elif not others:
        text = "wsrep_cluster_address names no node: each start makes a new cluster and joins none"
        found.append(warning(CLUSTER, text, "name all nodes in it, behind gcomm://"))
    return found or [ok(CLUSTER, f"joins {', '.join(others)}")]


def members(mysqld: OptionGroup) -> tuple[str, ...]:
    """The hosts in wsrep_cluster_address, without ports."""
    listed = (mysqld.get("wsrep-cluster-address") or "").partition("://")[2].partition("?")[0]
    return tuple(_host(item.strip()) for item in listed.split(",") if item.strip())


def is_one_host(hosts: tuple[str, ...]) -> bool:
    """Whether the cluster is on this machine alone, for tests: all its nodes have loopback addresses."""
    return bool(hosts) and all(is_loopback(host) for host in hosts)


def is_loopback(host: str) -> bool:
    """Whether the name or address never leaves the host."""
    address = parse_ip(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def find_announced(mysqld: OptionGroup) -> Announced | None:
    """What the server announces; None where it takes the address of some network interface.

    Raises SstError for an address that can't be used.
    """
    receive = mysqld.get("wsrep-sst-receive-address") or "AUTO"
    if receive.upper() != "AUTO":
        return Announced(parse_address(receive), "wsrep_sst_receive_address")
    node = mysqld.get("wsrep-node-address") or ""
    if node:  # its port is the group communication's
        return Announced(Address(parse_address(node).host), "wsrep_node_address")
    bound = (mysqld.get("bind-address") or "").split(",")[0].strip()
    return None if bound in _ANY else Announced(parse_address(bound), "bind_address")


def check_announced(announced: Announced | None, cluster: tuple[str, ...]) -> Finding:
    """Can the other nodes of `cluster` reach what is announced?"""
    receive = "wsrep_sst_receive_address"
    option = receive if announced is not None and announced.source == receive else "wsrep_node_address"
    advice = f"set {option} in [mysqld] to this node's name (or address) in the network of the cluster"
    if announced is None:
        return warning(
            ADDRESS,
            "neither wsrep_node_address nor bind_address names this node: the server announces the address of one of "
            "its network interfaces, and this node's certificate must carry that",
            advice,
        )
    if is_loopback(announced.address.host) and not is_one_host(cluster):
        text = f"{announced.source}={announced.address.host} is announced, which leads every other node to itself"
        return fault(ADDRESS, text, advice)
    return ok(ADDRESS, f"{announced.address}, from {announced.source}")


def _wsrep_is_on(mysqld: OptionGroup, version: ServerVersion | None) -> bool:
    """MariaDB's default is off, that of the others on."""
    if "wsrep-on" in mysqld:
        return mysqld.is_on("wsrep-on")
    return version is not None and not version.mariadb


def _host(text: str) -> str:
    match = re.fullmatch(r"\[([^\]]*)\](?::\d+)?|([^:]+)(?::\d+)?", text, re.ASCII)
    return (match[1] or match[2]) if match else text
