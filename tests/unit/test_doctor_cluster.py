"""What doctor says of the node's membership, its announced address and what DNS says of it."""

from __future__ import annotations

import pytest

from pytunnel.certs.findings import Level
from pytunnel.doctor.cluster import (
    Announced,
    check_announced,
    check_membership,
    find_announced,
    is_one_host,
    members,
)
from pytunnel.doctor.findings import Finding
from pytunnel.doctor.names import check_forward, check_reverse
from pytunnel.doctor.server import ServerVersion
from pytunnel.sst.address import Address
from pytunnel.sst.errors import SstError
from tests.support.options import options

WORKING = ("wsrep_on=ON", "wsrep_provider=/lib/galera.so", "wsrep_cluster_address=gcomm://node1,node2")
CLUSTER = ("node1", "node2")


def membership(*lines: str, version: ServerVersion | None = None, exists: bool = True) -> list[Finding]:
    return check_membership(options(*lines), version, provider_exists=exists)


def announced(host: str) -> Announced:
    return Announced(Address(host), "bind_address")


def forward(*addresses: str, one_host: bool = False) -> Finding:
    return check_forward(announced("node1.my.cluster"), addresses, one_host=one_host)


def test_a_node_that_can_join_is_ok() -> None:
    (found,) = membership(*WORKING)
    assert (found.level, found.text) == (Level.OK, "joins node1, node2")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("wsrep_on=OFF", "wsrep_on"),
        ("wsrep_provider=none", "wsrep_provider"),
        ("wsrep_cluster_address=", "wsrep_cluster_address"),
    ],
)
def test_what_keeps_a_server_out_of_a_cluster_is_a_fault(line: str, word: str) -> None:
    (found,) = membership(*WORKING, line)
    assert (found.level, word in found.text) == (Level.FAULT, True)


def test_wsrep_is_off_unless_it_is_switched_on_in_mariadb_alone() -> None:
    assert membership(*WORKING[1:])[0].level is Level.FAULT
    assert membership(*WORKING[1:], version=ServerVersion(mariadb=False, numbers=(8, 0)))[0].level is Level.OK


def test_a_provider_that_is_not_there_is_a_fault() -> None:
    (found,) = membership(*WORKING, exists=False)
    assert (found.level, "/lib/galera.so" in found.text) == (Level.FAULT, True)


def test_an_empty_cluster_address_makes_a_new_cluster_each_time() -> None:
    (found,) = membership(*WORKING, "wsrep_cluster_address=gcomm://")
    assert found.level is Level.WARNING


def test_the_members_are_hosts_without_ports_and_options() -> None:
    text = "wsrep_cluster_address=gcomm://node1:4567, 10.0.0.2,[fd00::3]:4567?pc.wait_prim=no"
    assert members(options(text)) == ("node1", "10.0.0.2", "fd00::3")


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [((), False), (("127.0.0.1", "127.0.0.2"), True), (("localhost", "::1"), True), (("127.0.0.1", "node2"), False)],
)
def test_a_cluster_of_loopback_addresses_is_on_one_host(hosts: tuple[str, ...], expected: bool) -> None:
    assert is_one_host(hosts) is expected


@pytest.mark.parametrize(
    ("lines", "address", "source"),
    [
        (("bind_address=node1",), "node1:4444", "bind_address"),
        (("bind_address=0.0.0.0", "wsrep_node_address=10.0.0.1:4567"), "10.0.0.1:4444", "wsrep_node_address"),
        (("wsrep_node_address=n", "wsrep_sst_receive_address=AUTO"), "n:4444", "wsrep_node_address"),
        (("wsrep_node_address=n", "wsrep_sst_receive_address=m:4445"), "m:4445", "wsrep_sst_receive_address"),
        (("bind_address=fd00::1",), "[fd00::1]:4444", "bind_address"),
        (("bind_address=10.0.0.1,127.0.0.1",), "10.0.0.1:4444", "bind_address"),
    ],
)
def test_the_address_comes_from_the_first_option_that_names_one(
    lines: tuple[str, ...], address: str, source: str
) -> None:
    found = find_announced(options(*lines))
    assert found is not None
    assert (str(found.address), found.source) == (address, source)


@pytest.mark.parametrize("lines", [(), ("bind_address=0.0.0.0",), ("bind_address=*",), ("bind-address=::",)])
def test_an_address_of_all_interfaces_announces_nothing(lines: tuple[str, ...]) -> None:
    assert find_announced(options(*lines)) is None


def test_an_address_that_can_not_be_used_is_refused() -> None:
    with pytest.raises(SstError, match="port"):
        find_announced(options("wsrep_sst_receive_address=node1:99999"))


def test_a_name_that_is_guessed_by_the_server_is_a_warning() -> None:
    found = check_announced(None, CLUSTER)
    assert (found.level, "wsrep_node_address" in found.advice) == (Level.WARNING, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_announcing_loopback_is_a_fault(host: str) -> None:
    found = check_announced(announced(host), CLUSTER)
    assert (found.level, f"bind_address={host}" in found.text) == (Level.FAULT, True)


def test_announcing_loopback_is_right_on_one_host() -> None:
    assert check_announced(announced("127.0.0.1"), ("127.0.0.1", "127.0.0.2")).level is Level.OK


def test_a_name_that_resolves_is_ok() -> None:
    assert (forward("10.0.0.1").level, "10.0.0.1" in forward("10.0.0.1").text) == (Level.OK, True)


def test_a_name_that_does_not_resolve_is_a_fault() -> None:
    assert (forward().level, "/etc/hosts" in forward().advice) == (Level.FAULT, True)


def test_a_name_that_is_loopback_in_etc_hosts_is_a_fault() -> None:
    found = forward("127.0.1.1")
    assert (found.level, "127.0.1.1" in found.advice) == (Level.FAULT, True)


def test_a_name_that_is_loopback_among_others_is_a_warning() -> None:
    assert forward("::1", "10.0.0.1").level is Level.WARNING


def test_a_name_may_be_loopback_on_one_host() -> None:
    assert forward("127.0.0.1", one_host=True).level is Level.OK


def test_an_address_has_the_names_that_dns_confirms() -> None:
    assert "node1.my.cluster" in check_reverse("10.0.0.1", ("node1.my.cluster",)).text
    assert "certificates must carry the address itself" in check_reverse("10.0.0.1", ()).text
