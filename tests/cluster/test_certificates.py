"""A node joins with each kind of certificate that the field uses."""

from __future__ import annotations

from dataclasses import replace

from lab.certificates import authority, issued, rsa_key, self_signed
from lab.mariadb import NodeSettings
from tests.cluster.harness import Cluster, assert_joined, bootstrap_with_data, infos, warnings, with_sst


def test_self_signed_certificates_with_key_and_certificate_in_one_file(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    assert_joined(donor, joiner)


def test_certificates_of_an_authority_with_the_key_in_a_file_of_its_own(cluster: Cluster) -> None:
    _, (first, second) = cluster.ca_issued()
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    assert_joined(donor, joiner)


def test_rsa_keys_and_alternative_names_in_place_of_the_common_name(cluster: Cluster) -> None:
    ca = authority("Test Authority")
    nodes = []
    for number, host in enumerate(cluster.hosts[:2]):
        names, addresses = ([host.name], []) if host.namespace else ([], [host.address])
        own = issued(ca, f"database {number}", names=names, addresses=addresses, key=rsa_key())
        nodes.append(NodeSettings(host=host, sst=cluster.separate(own, [ca])))
    donor = bootstrap_with_data(cluster, nodes[0])
    joiner = cluster.node(nodes[1])
    joiner.join(donor)
    assert_joined(donor, joiner)


def test_without_verification_any_certificate_will_do_and_each_use_warns(cluster: Cluster) -> None:
    nodes = []
    for host in cluster.hosts[:2]:
        options = dict(cluster.combined(self_signed("any name"), []))
        del options["tca"]
        nodes.append(with_sst(NodeSettings(host=host, sst=options), {"sockopt": "verify=0"}))
    donor = bootstrap_with_data(cluster, nodes[0])
    joiner = cluster.node(nodes[1])
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert any("verify=0" in text for text in warnings(donor))
    assert any("verify=0" in text for text in warnings(joiner))


def test_the_name_is_looked_up_where_bind_address_is_an_ip(cluster: Cluster, named_hosts: tuple[object, ...]) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, replace(first, bind_address=first.host.address))
    joiner = cluster.node(replace(second, bind_address=second.host.address))
    joiner.join(donor)
    assert_joined(donor, joiner)


def test_the_closing_line_names_the_peer_and_the_cipher(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    closing = [text for text in infos(donor) if "TLSv1.3" in text and second.host.name in text]
    assert closing
