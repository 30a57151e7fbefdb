"""A CA is changed where bundles hold revocation lists: with one of them, every issuer needs its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from lab import certificates as lab
from pytunnel.certs.rotation import Bundle, Change, NodeFile, Progress, outages, plan
from tests.support.chains import intermediate

Revoked = x509.CertificateRevocationList

OLD, NEW = lab.authority("Old CA"), lab.authority("New CA")
NODE_OLD, NODE_NEW = lab.issued(OLD, "node"), lab.issued(NEW, "node")


def revoking(issuer: lab.Identity, *revoked: lab.Identity, start: datetime | None = None) -> Revoked:
    return x509.load_pem_x509_crl(lab.revoking(issuer, revoked, start=start))


OF_OLD, OF_NEW = revoking(OLD), revoking(NEW)


def change(lists: Sequence[Revoked], *nodes: lab.Identity) -> Change:
    """One bundle with these lists, and these nodes."""
    bundle = Bundle(Path("bundle"), tuple(item.certificate for item in (OLD, NEW)), tuple(lists))
    files = [NodeFile(Path(f"node{number}"), node.certificate) for number, node in enumerate(nodes)]
    return Change(OLD.certificate, NEW.certificate, [bundle], files)


def progress(state: Change) -> list[Progress]:
    return [step.progress for step in plan(state)]


def test_no_node_is_renewed_while_the_bundle_has_lists_but_none_of_the_new_ca() -> None:
    state = change([OF_OLD], NODE_OLD)
    assert progress(state) == [Progress.NOW, Progress.LATER, Progress.LATER]
    assert plan(state)[0].listless == plan(state)[0].bundles == tuple(state.bundles)


def test_a_list_of_the_new_ca_that_has_ended_is_none() -> None:
    ended = revoking(NEW, start=datetime.now(UTC) - timedelta(days=40))
    assert progress(change([OF_OLD, ended], NODE_OLD))[0] is Progress.NOW


def test_nodes_are_renewed_once_the_new_ca_s_list_is_there() -> None:
    state = change([OF_OLD, OF_NEW], NODE_OLD)
    assert progress(state) == [Progress.DONE, Progress.NOW, Progress.LATER]
    assert outages(state) == []


def test_a_bundle_without_lists_needs_none() -> None:
    assert progress(change([], NODE_OLD)) == [Progress.DONE, Progress.NOW, Progress.LATER]


def test_a_list_of_the_ca_between_the_new_one_and_its_nodes_is_enough() -> None:
    between = intermediate(NEW, "Between")
    node = NodeFile(Path("node"), lab.issued(between, "node").certificate, (between.certificate,))
    state = replace(change([OF_OLD, revoking(between)]), nodes=[node])
    assert progress(state)[0] is Progress.DONE


def test_a_renewed_node_without_a_list_of_its_issuer_is_an_outage() -> None:
    (finding,) = outages(change([OF_OLD], NODE_OLD, NODE_NEW))
    assert "nodes with this bundle refuse node1: " in finding.text
    assert "no revocation list (CRL) of its issuer is among ours" in finding.text


def test_a_revoked_node_is_an_outage() -> None:
    (finding,) = outages(change([revoking(OLD, NODE_OLD), OF_NEW], NODE_OLD, NODE_NEW))
    assert "refuse node0: " in finding.text
    assert "it is revoked" in finding.text
