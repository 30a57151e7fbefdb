"""What doctor says of the certificate's name and the address that the node announces."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from lab.certificates import self_signed
from pytunnel.certs.findings import Level
from pytunnel.doctor.cluster import Announced
from pytunnel.doctor.findings import Finding
from pytunnel.doctor.names import check_carried, examine_name
from pytunnel.sst.address import Address
from pytunnel.sst.settings import SstSettings
from pytunnel.sst.tlsfiles import NameRule
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.options import SocketOptions
from tests.support.concurrency import in_trio

OWN = self_signed("node1.my.cluster").certificate


def settings(rule: NameRule = NameRule.MUST_CARRY, **tls: object) -> SstSettings:
    values = TlsSettings(certificate=Path("/t/node.pem"), **tls)  # type: ignore[arg-type] # fields of TlsSettings
    return SstSettings(values, SocketOptions(), rule, "tests", legacy_donor=False, streams=4)


async def judged(host: str, chosen: SstSettings, own: x509.Certificate = OWN) -> Finding:
    return await examine_name(Announced(Address(host), "bind_address"), chosen, own)


@in_trio
async def test_a_certificate_that_carries_the_announced_name_is_ok() -> None:
    found = await judged("node1.my.cluster", settings())
    assert (found.level, "CN=node1.my.cluster" in found.text) == (Level.OK, True)


@in_trio
async def test_a_certificate_of_another_name_is_a_fault_that_says_what_to_make() -> None:
    found = await judged("node2.my.cluster", settings())
    assert (found.level, "no donor would send to it" in found.text) == (Level.FAULT, True)
    assert "Make a certificate for node2.my.cluster" in found.advice


@in_trio
async def test_the_server_s_certificate_may_have_another_name_with_a_warning() -> None:
    found = await judged("node2.my.cluster", settings(NameRule.SHOULD_CARRY))
    assert (found.level, "same certificate" in found.text) == (Level.WARNING, True)


def test_a_name_that_only_dns_confirms_is_a_warning() -> None:
    found = check_carried("10.0.0.1", settings(), OWN)
    assert (found.level, "10.0.0.1" in found.advice) == (Level.WARNING, True)


@pytest.mark.parametrize(
    ("chosen", "word"),
    [
        (settings(NameRule.SHARED), "share"),
        (settings(verify=False), "not compared"),
        (settings(verify_name=False), "not compared"),
        (settings(peer_names=("other",)), "commonname"),
    ],
)
def test_settings_under_which_another_name_passes_are_said(chosen: SstSettings, word: str) -> None:
    found = check_carried("node2.my.cluster", chosen, OWN)
    assert (found.level, word in found.text) == (Level.OK, True)
