"""A node joins under every way in which clusters are configured, or is refused for the stated reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.certificates import Identity, authority, issued, revoking, self_signed, write_public, write_secret
from lab.hosts import Host
from lab.mariadb import Node, NodeSettings
from lab.optionfile import Options
from tests.cluster.harness import (
    Cluster,
    assert_joined,
    bootstrap_with_data,
    warnings,
    with_server,
    with_sst,
)
from tests.cluster.test_refusals import assert_one_error, refused

# As a server's own certificates are named, and with what broke other SST programs: blanks, commas, UTF-8.
SHARED_NAME = "Böhmen cluster, alle Knoten"


def joined(cluster: Cluster, first: NodeSettings, second: NodeSettings) -> tuple[Node, Node]:
    """Let the second node join the first; both have the same data afterwards."""
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    assert_joined(donor, joiner)
    return donor, joiner


def ssl_options(options: Options, kind: str = "ssl") -> Options:
    """The [sst] options of `Cluster.separate` under the server's names."""
    return {f"{kind}-ca": options["tca"], f"{kind}-cert": options["tcert"], f"{kind}-key": options["tkey"]}


def wrongly_named(cluster: Cluster, ca: Identity, settings: NodeSettings) -> NodeSettings:
    """The same node with a certificate of the CA for another name."""
    return replace(settings, sst=cluster.separate(issued(ca, "elsewhere.my.cluster"), [ca]))


def test_tca_may_be_a_directory(cluster: Cluster) -> None:
    nodes = []
    for settings in cluster.self_signed():
        bundle = Path(str(settings.sst["tca"]))
        directory = bundle.parent / "trusted"
        directory.mkdir()
        for number, pem in enumerate(bundle.read_text().split("-----END CERTIFICATE-----\n")[:-1]):
            write_public(directory / f"{number}.crt", f"{pem}-----END CERTIFICATE-----\n".encode())
        nodes.append(with_sst(settings, {"tca": str(directory)}))
    joined(cluster, *nodes)


def test_the_servers_own_certificate_serves_where_sst_names_none(cluster: Cluster) -> None:
    _, (first, second) = cluster.ca_issued()
    nodes = [with_server(replace(node, sst={}), ssl_options(node.sst)) for node in (first, second)]
    joined(cluster, *nodes)


def test_the_servers_own_certificate_may_be_the_same_on_all_nodes(cluster: Cluster) -> None:
    ca = authority("Auto Generated CA")
    shared = issued(ca, "Auto Generated Server Certificate")
    nodes = [
        with_server(NodeSettings(host=host), ssl_options(cluster.separate(shared, [ca]))) for host in cluster.hosts[:2]
    ]
    _, joiner = joined(cluster, *nodes)
    assert any("only a donor with this same certificate" in text for text in warnings(joiner))


def test_each_role_may_have_a_certificate_of_its_own(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    unused = ssl_options(cluster.separate(self_signed("unused"), [ca]))
    donor = with_sst(replace(first, sst=unused), ssl_options(first.sst, "ssl-client"))
    joiner = with_sst(replace(second, sst=unused), ssl_options(second.sst, "ssl-server"))
    joined(cluster, donor, joiner)


def test_a_revoked_donor_is_refused_and_its_serial_number_logged(cluster: Cluster) -> None:
    ca = authority("Test Authority")
    revoked, good = (issued(ca, host.name) for host in cluster.hosts[:2])
    crl = write_public(cluster.site.directory / f"{cluster.name}.crl", revoking(ca, [revoked]))
    first = NodeSettings(host=cluster.hosts[0], sst=cluster.separate(revoked, [ca]))
    second = NodeSettings(host=cluster.hosts[1], sst={**cluster.separate(good, [ca]), "ssl-crl": str(crl)})
    donor, joiner = refused(cluster, first, second)
    assert_one_error(donor, "did not accept our certificate")
    assert any(f"{revoked.certificate.serial_number:X}" in text for text in warnings(joiner))


def test_a_node_that_is_not_revoked_joins_beside_one_that_is(cluster: Cluster) -> None:
    ca, nodes = cluster.ca_issued()
    crl = write_public(cluster.site.directory / f"{cluster.name}.crl", revoking(ca, [issued(ca, "gone.my.cluster")]))
    joined(cluster, *(with_sst(node, {"ssl-crl": str(crl)}) for node in nodes))


def test_encrypt_2_3_and_4_as_other_methods_have_them(cluster: Cluster) -> None:
    ca = authority("Test Authority")
    one, two, three = (issued(ca, host.name) for host in cluster.hosts)
    kinds: list[Options] = [
        {**cluster.combined(one, [ca]), "encrypt": "2"},
        {**cluster.separate(two, [ca]), "encrypt": "3"},
        {**ssl_options(cluster.separate(three, [ca])), "encrypt": "4"},
    ]
    first, second, third = (NodeSettings(host=host, sst=sst) for host, sst in zip(cluster.hosts, kinds, strict=True))
    donor, joiner = joined(cluster, first, second)
    last = cluster.node(third)
    last.join(donor, joiner)
    assert_joined(donor, last, joiner)


@pytest.mark.parametrize("mode", ["0", "1"])
def test_an_encrypt_that_would_be_in_clear_is_refused(cluster: Cluster, mode: str) -> None:
    first, second = cluster.self_signed()
    _, joiner = refused(cluster, first, with_sst(second, {"encrypt": mode}))
    assert_one_error(joiner, f"encrypt={mode}")


def test_ssl_mode_verify_ca_takes_any_name_and_required_any_certificate(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    misnamed = with_sst(wrongly_named(cluster, ca, second), {"ssl-mode": "VERIFY_CA"})
    donor, joiner = joined(cluster, with_sst(first, {"ssl-mode": "VERIFY_CA"}), misnamed)
    assert not any("NOT verified" in text for text in warnings(donor) + warnings(joiner))


def test_ssl_mode_required_verifies_nothing_and_warns(cluster: Cluster) -> None:
    nodes = [
        NodeSettings(host=host, sst={**cluster.combined(self_signed("any"), []), "ssl-mode": "REQUIRED"})
        for host in cluster.hosts[:2]
    ]
    for node in joined(cluster, *nodes):
        assert any("NOT verified" in text for text in warnings(node))


def test_ssl_mode_verify_identity_demands_the_name(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    careless = with_sst(wrongly_named(cluster, ca, second), {"ssl-mode": "VERIFY_CA"})
    donor, _ = refused(cluster, with_sst(first, {"ssl-mode": "VERIFY_IDENTITY"}), careless)
    assert_one_error(donor, "elsewhere.my.cluster")


def shared_files(node: Node, ca: Identity, shared: Identity) -> None:
    """Put one certificate for all nodes where Percona's cluster-wide encryption looks for it."""
    write_public(node.datadir / "ca.pem", ca.certificate_pem())
    write_public(node.datadir / "server-cert.pem", shared.certificate_pem())
    write_secret(node.datadir / "server-key.pem", shared.key_pem(), node.site.account)


def test_cluster_wide_encryption_with_one_certificate_on_all_nodes(cluster: Cluster) -> None:
    ca = authority("Cluster CA")
    shared = issued(ca, SHARED_NAME)
    nodes = []
    for host in cluster.hosts[:2]:
        node = cluster.node(with_server(NodeSettings(host=host), {"loose-pxc-encrypt-cluster-traffic": "ON"}))
        shared_files(node, ca, shared)
        nodes.append(node)
    donor, joiner = nodes
    donor.bootstrap()
    joiner.join(donor)
    assert_joined_empty(donor, joiner)


def assert_joined_empty(donor: Node, joiner: Node) -> None:
    """Both have the same data, though there is no sample in it."""
    donor.sql.run("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY); INSERT INTO shop.t VALUES (7)")
    joiner.sql.run("SET SESSION wsrep_sync_wait = 1")
    assert joiner.state() == "Synced"
    assert donor.sql.status("wsrep_cluster_size") == "2"


def test_cluster_wide_encryption_names_all_files_that_are_missing(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    without = with_server(replace(second, sst={}), {"loose-pxc-encrypt-cluster-traffic": "ON"})
    _, joiner = refused(cluster, first, without)
    assert_one_error(joiner, "ca.pem", "server-cert.pem", "server-key.pem")


def percona_directory(cluster: Cluster, name: str, server: Identity, client: Identity) -> str:
    """The directory that wsrep_sst_auth names for the method secure_rsync."""
    directory = cluster.site.directory / f"{cluster.name}-{name}"
    directory.mkdir()
    for role, identity in (("server", server), ("client", client)):
        write_public(directory / f"{role}.crt", identity.certificate_pem())
        write_secret(directory / f"{role}.pem", identity.combined_pem(), cluster.site.account)
    return str(directory)


def secure_rsync(host: Host, directory: str) -> NodeSettings:
    return with_server(NodeSettings(host=host), {"wsrep-sst-method": "secure_rsync", "wsrep-sst-auth": directory})


def test_secure_rsync_with_its_directory_of_two_certificates(cluster: Cluster) -> None:
    directory = percona_directory(cluster, "ssl", self_signed("any server"), self_signed("any client"))
    first, second = (secure_rsync(host, directory) for host in cluster.hosts[:2])
    in_sst = with_sst(with_server(second, {"wsrep-sst-auth": "user:password"}), {"wsrep-sst-auth": directory})
    joined(cluster, first, in_sst)


def test_secure_rsync_admits_no_other_client_certificate(cluster: Cluster) -> None:
    server = self_signed("any server")
    good = percona_directory(cluster, "good", server, self_signed("any client"))
    other = percona_directory(cluster, "other", server, self_signed("any client"))
    donor, _ = refused(cluster, *(secure_rsync(h, d) for h, d in zip(cluster.hosts[:2], (other, good), strict=True)))
    assert_one_error(donor, "did not accept our certificate")


def test_a_short_name_is_completed_by_dns(cluster: Cluster, named_hosts: tuple[Host, ...]) -> None:
    first, second = cluster.self_signed()
    joined(cluster, first, replace(second, bind_address=second.host.name.partition(".")[0]))


@pytest.mark.parametrize("port", ["", ":4567"])
def test_wsrep_node_address_names_the_joiner(cluster: Cluster, named_hosts: tuple[Host, ...], port: str) -> None:
    first, second = cluster.self_signed()
    joined(cluster, first, with_server(second, {"wsrep-node-address": f"{second.host.name}{port}"}))


def test_a_receive_address_with_a_port_of_its_own(cluster: Cluster, named_hosts: tuple[Host, ...]) -> None:
    first, second = cluster.self_signed()
    joined(cluster, first, replace(second, receive_address=f"{second.host.name}:14444"))


def test_one_stream_is_enough_and_many_do_no_harm(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor, _ = joined(cluster, with_sst(first, {"backup-threads": "1"}), second)
    assert donor.running
