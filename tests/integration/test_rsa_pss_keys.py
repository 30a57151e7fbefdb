"""RSA-PSS keys, as `openssl genpkey -algorithm rsa-pss` makes them: good for a peer, of no use to ourselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trio
from OpenSSL import SSL

from lab import certificates as lab
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials, read_certificates
from pytunnel.tls.settings import TlsSettings
from tests.support.certs import certs
from tests.support.credential_files import refusal
from tests.support.handshakes import shake_hands, stream_pair
from tests.support.programs import needs

pytestmark = needs("openssl")

LIMIT = 60  # seconds for any program, and for a handshake
PEER = lab.self_signed("peer")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with pss.key and pss.crt, which it signs itself."""
    folder = tmp_path_factory.mktemp("pss")
    for words in (
        ("genpkey", "-algorithm", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "pss.key"),
        ("req", "-x509", "-key", "pss.key", "-subj", "/CN=node1", "-days", "99", "-out", "pss.crt"),
    ):
        subprocess.run(["openssl", *words], cwd=folder, capture_output=True, timeout=LIMIT, check=True)
    (folder / "pss.key").chmod(0o600)
    return folder


def test_our_own_is_refused_before_anything_listens(files: Path) -> None:
    wanted = TlsSettings(certificate=files / "pss.crt", key=files / "pss.key", ca=files / "pss.crt")
    assert "is an RSA-PSS key, which can't be used here; make an ordinary RSA key" in refusal(wanted)


def test_verify_says_that_it_can_t_be_used(files: Path) -> None:
    output = certs(files, "verify", "--ca", "pss.crt", "--key", "pss.key", "pss.crt", code=2)
    assert "is an RSA-PSS key, which can't be used here; make an ordinary RSA key" in output


def test_verify_warns_of_it_where_the_key_is_not_given(files: Path) -> None:
    assert "but no node that runs pytunnel" in certs(files, "verify", "--ca", "pss.crt", "pss.crt", code=1)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("peer_is_server", [True, False])
def test_a_peer_that_has_one_is_accepted(files: Path, version: str, peer_is_server: bool) -> None:
    trusted = (read_certificates(files / "pss.crt")[0],)
    ours = make_context(TlsSettings(maximum=version), Credentials(PEER.certificate, (), PEER.key, trusted))
    theirs = SSL.Context(SSL.TLS_METHOD)
    theirs.use_certificate_file(str(files / "pss.crt"))
    theirs.use_privatekey_file(str(files / "pss.key"))

    async def shake() -> None:
        with trio.fail_after(LIMIT):
            await shake_hands(*(stream_pair(theirs, ours) if peer_is_server else stream_pair(ours, theirs)))

    trio.run(shake)
