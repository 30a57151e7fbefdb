"""A transfer that must not happen ends in seconds: one clear error, old data untouched, no rows on the wire."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

from lab.certificates import authority, expired, issued
from lab.hosts import can_make_namespaces
from lab.leftovers import leftovers
from lab.mariadb import Node, NodeSettings
from lab.programs import installed
from lab.sample import MARKER
from tests.cluster.harness import (
    Cluster,
    bootstrap_with_data,
    errors,
    fingerprint,
    sst_port_taken,
    transfer_captured,
    with_sst,
)

REFUSAL_LIMIT = 25.0
# The method's program on a donor that wasn't told the secret of this transfer.
_FORGETFUL = """#!/bin/sh
unset WSREP_SST_OPT_REMOTE_AUTH
PATH=${{PATH#*:}}
exec {program} "$@"
"""


def test_a_joiners_certificate_for_another_name_than_its_bind_address(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    stranger = cluster.separate(issued(ca, "stranger.my.cluster"), [ca])
    donor, joiner = refused(cluster, first, replace(second, sst=stranger))
    assert_one_error(joiner, "stranger.my.cluster", second.host.name)
    assert errors(donor) == []


def test_a_donor_checks_the_name_even_if_the_joiner_does_not(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    stranger = cluster.separate(issued(ca, "stranger.my.cluster"), [ca])
    careless = with_sst(replace(second, sst=stranger), {"sockopt": "verify=0"})
    donor, _ = refused(cluster, first, careless)
    assert_one_error(donor, "stranger.my.cluster", second.host.name)


def test_a_joiners_certificate_that_has_expired(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    old = cluster.separate(expired(ca, second.host.name), [ca])
    donor, joiner = refused(cluster, first, replace(second, sst=old))
    assert_one_error(joiner, "expired")
    assert errors(donor) == []


def test_a_donors_certificate_that_has_expired(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    old = cluster.separate(expired(ca, first.host.name), [ca])
    donor, _ = refused(cluster, replace(first, sst=old), second)
    assert_one_error(donor, "expired")


def test_a_joiners_certificate_of_another_authority(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    other = cluster.separate(issued(authority("Other Authority"), second.host.name), [ca])
    donor, _ = refused(cluster, first, replace(second, sst=other))
    assert_one_error(donor, second.host.name)


def test_a_donors_certificate_of_another_authority(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    other = cluster.separate(issued(authority("Other Authority"), first.host.name), [ca])
    donor, joiner = refused(cluster, replace(first, sst=other), second)
    assert_one_error(joiner, first.host.name, "CA")
    assert len(errors(donor)) == 1


def test_a_key_that_is_not_the_certificates(cluster: Cluster) -> None:
    ca, (first, second) = cluster.ca_issued()
    another = cluster.separate(issued(ca, second.host.name), [ca])
    mixed = with_sst(second, {"tkey": another["tkey"]})
    donor, joiner = refused(cluster, first, mixed)
    assert_one_error(joiner, str(another["tkey"]))
    assert errors(donor) == []


def test_a_file_that_is_missing_on_the_joiner(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor, joiner = refused(cluster, first, with_sst(second, {"tcert": "/nowhere/node.pem"}))
    assert_one_error(joiner, "certificate", "/nowhere/node.pem")
    assert errors(donor) == []


def test_a_file_that_is_missing_on_the_donor(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor, _ = refused(cluster, with_sst(first, {"tca": "/nowhere/ca.pem"}), second)
    assert_one_error(donor, "CA", "/nowhere/ca.pem")


def test_a_word_in_sockopt_that_is_unknown(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor, joiner = refused(cluster, first, with_sst(second, {"sockopt": "verfiy=0"}))
    assert_one_error(joiner, "verfiy")
    assert errors(donor) == []


def test_a_donor_that_does_not_know_the_secret_of_this_transfer(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    forget_the_secret(donor)
    joiner = cluster.node(second)
    assert_refused(donor, joiner)
    assert_one_error(donor, "secret")


def test_a_port_that_is_taken(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    with sst_port_taken(joiner):
        let_fail(joiner, donor)
    assert_unharmed(donor, joiner)
    assert_one_error(joiner, str(joiner.ports.sst))
    assert errors(donor) == []


def refused(cluster: Cluster, donor_settings: NodeSettings, joiner_settings: NodeSettings) -> tuple[Node, Node]:
    """A donor with data, and a joiner that tried and was refused as it must."""
    donor = bootstrap_with_data(cluster, donor_settings)
    joiner = cluster.node(joiner_settings)
    assert_refused(donor, joiner)
    return donor, joiner


def assert_refused(donor: Node, joiner: Node) -> None:
    """The joiner tries and gives up, and both nodes are as they were."""
    let_fail(joiner, donor)
    assert_unharmed(donor, joiner)


def let_fail(joiner: Node, donor: Node) -> None:
    """The joiner tries and gives up; its old data is as it was, and no row was seen on the network."""
    give_old_data(joiner)
    before = fingerprint(joiner)
    with transfer_captured(joiner) if can_capture() else nullcontext() as capture:
        joiner.start_joining(donor)
        joiner.wait_until_ended(REFUSAL_LIMIT)
    assert fingerprint(joiner) == before
    assert capture is None or not capture.contains(MARKER)


def assert_unharmed(donor: Node, joiner: Node) -> None:
    """The donor goes on working, and nothing is left over on either node."""
    donor.wait_until_synced()
    donor.sql.run("CREATE SCHEMA still_writable")
    assert leftovers(donor, joiner) == []


def assert_one_error(node: Node, *words: str) -> None:
    """The node's log has one error of the SST, and all of `words` are in it."""
    (text,) = errors(node)
    assert [word for word in words if word not in text] == [], text


def give_old_data(joiner: Node) -> None:
    """A schema that the donor doesn't have: a transfer would delete it."""
    folder = joiner.datadir / "old_schema"
    folder.mkdir()
    (folder / "rows").write_text("rows of an earlier life")
    joiner.site.account.own(folder)


def can_capture() -> bool:
    """Whether the network of a host can be recorded here."""
    return can_make_namespaces() and installed("tcpdump")


def forget_the_secret(donor: Node) -> None:
    """Put a program before the method's own that takes the secret away from it."""
    name = f"wsrep_sst_{donor.site.method}"
    program = donor.programs / name
    program.write_text(_FORGETFUL.format(program=name))
    program.chmod(0o755)
