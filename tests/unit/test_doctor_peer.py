"""What doctor says of a peer after the handshake; the handshake itself is in tests/integration/test_doctor.py."""

from __future__ import annotations

import datetime

import pytest

from lab.certificates import authority, issued
from pytunnel.certs.findings import Level
from pytunnel.doctor.peer import CERTIFICATE, TLS, check_trust, describe
from pytunnel.sst.settings import SstSettings
from pytunnel.sst.tlsfiles import NameRule
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.session import Session
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.options import SocketOptions

NOW = datetime.datetime.now(datetime.UTC)


def settings(*, verify: bool) -> SstSettings:
    tls = TlsSettings(verify=verify)
    return SstSettings(tls, SocketOptions(), NameRule.MUST_CARRY, "tests", legacy_donor=False, streams=4)


def session(days: int) -> Session:
    """A session with a peer whose certificate ends in so many days."""
    end = NOW + datetime.timedelta(days=days, hours=1)
    own = issued(authority("Test Authority"), "node2", names=["node2.my.cluster"], end=end)
    return Session("TLSv1.3", "TLS_AES_128_GCM_SHA256", own.certificate)


@pytest.mark.parametrize(("days", "level"), [(31, Level.OK), (29, Level.WARNING)])
def test_what_the_peer_presented_is_told_with_its_end(days: int, level: Level) -> None:
    negotiated, certificate = describe(session(days), NOW)
    assert (negotiated.check, negotiated.text) == (TLS, "TLSv1.3, TLS_AES_128_GCM_SHA256")
    assert (certificate.check, certificate.level) == (CERTIFICATE, level)
    for word in ("CN=node2", "DNS:node2.my.cluster", "from /CN=Test Authority", f"({days} days)"):
        assert word in certificate.text


def test_a_peer_without_a_certificate_is_warned_of() -> None:
    assert describe(Session("TLSv1.2", "X", None))[-1].level is Level.WARNING


def test_a_peer_that_was_verified_is_trusted() -> None:
    found = check_trust(settings(verify=True), ExpectedPeer(("node2.my.cluster",)))
    assert (found.level, "node2.my.cluster" in found.text) == (Level.OK, True)


def test_a_peer_that_nobody_verified_is_not_called_trusted() -> None:
    found = check_trust(settings(verify=False), ExpectedPeer())
    assert (found.level, "not verified" in found.text) == (Level.WARNING, True)
