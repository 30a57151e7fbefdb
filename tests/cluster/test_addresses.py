"""A node joins by each kind of address that it may announce."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from lab.certificates import self_signed
from lab.hosts import Host
from lab.mariadb import NodeSettings
from lab.ports import free_ports, join_host_port
from tests.cluster.harness import Cluster, assert_joined, bootstrap_with_data, with_server, with_sst

# As a large deployment tool writes it into every node's [sst] group.
DEPLOYED_SOCKOPT = (
    "cipher=!SSLv2:kEECDH:kRSA:kEDH:kPSK:+3DES:!aNULL:!eNULL:!MD5:!EXP:!RC4:!SEED:!IDEA:!DES:!SSLv3:!TLSv1,pf=ip6"
)


def test_two_nodes_on_one_address_with_different_ports(cluster: Cluster) -> None:
    first, second = on_one_address(cluster, "127.0.0.1", common_name="localhost")
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    assert_joined(donor, joiner)


def test_two_nodes_on_the_ipv6_loopback_address(cluster: Cluster) -> None:
    require_ipv6()
    first, second = on_one_address(cluster, "::1", common_name="::1")
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    assert_joined(donor, joiner)


def test_the_server_announces_its_ipv6_address_by_itself(cluster: Cluster, named_hosts: tuple[Host, ...]) -> None:
    first, second = on_ipv6_names(cluster, named_hosts)
    donor = bootstrap_with_data(cluster, replace(first, bind_address=first.host.address6))
    joiner = cluster.node(replace(second, bind_address=second.host.address6))
    joiner.join(donor)
    assert_joined(donor, joiner)


def test_a_name_with_an_ipv6_address_and_the_sockopt_of_a_deployment_tool(
    cluster: Cluster, named_hosts: tuple[Host, ...]
) -> None:
    settings = [with_sst(node, {"sockopt": DEPLOYED_SOCKOPT}) for node in on_ipv6_names(cluster, named_hosts)]
    donor = bootstrap_with_data(cluster, settings[0])
    joiner = cluster.node(settings[1])
    joiner.join(donor)
    assert_joined(donor, joiner)


def test_a_third_node_takes_its_state_from_the_second(cluster: Cluster) -> None:
    first, second, third = cluster.self_signed(3)
    one = bootstrap_with_data(cluster, first)
    two = cluster.node(second)
    two.join(one)
    three = cluster.node(with_server(third, {"wsrep-sst-donor": two.name}))
    three.join(one, two)
    assert_joined(two, three, one)
    assert_joined(one, three, two)
    assert three.sql.status("wsrep_cluster_size") == "3"


def on_one_address(cluster: Cluster, address: str, common_name: str) -> list[NodeSettings]:
    """Settings for two nodes on the first host that share an address and a certificate's name."""
    own = self_signed(common_name)
    settings = []
    for _ in range(2):
        ports = free_ports(address)
        settings.append(
            NodeSettings(
                host=cluster.hosts[0],
                bind_address=address,
                ports=ports,
                receive_address=join_host_port(address, ports.sst),
                sst=cluster.combined(own, [own]),
            )
        )
    return settings


def on_ipv6_names(cluster: Cluster, hosts: tuple[Host, ...]) -> list[NodeSettings]:
    """Settings for two nodes that are bound to names with an IPv6 address, and certified by these names."""
    names = [str(host.name6) for host in hosts[:2]]
    identities = [self_signed(name) for name in names]
    return [
        NodeSettings(host=host, bind_address=name, sst=cluster.combined(own, identities))
        for host, name, own in zip(hosts[:2], names, identities, strict=True)
    ]


def require_ipv6() -> None:
    """Skip the test where the machine has no IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 address ::1")
