"""What is negotiated and what is refused, as two ends see it that shake hands in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from lab.certificates import self_signed
from pytunnel.tls.context import make_context
from pytunnel.tls.errors import CredentialsError, TlsError
from pytunnel.tls.session import Session
from pytunnel.tls.settings import TlsSettings
from tests.support.concurrency import in_trio_without_waiting
from tests.support.credentials import context_of, credentials_of
from tests.support.handshakes import outcomes, shake_hands, stream_pair

NODE1, NODE2 = self_signed("node1"), self_signed("node2")
BOTH = (NODE1, NODE2)


async def agreed(server: SSL.Context, client: SSL.Context) -> Session:
    """What the client learns of a handshake that succeeds on both sides."""
    _, seen = await shake_hands(*stream_pair(server, client))
    return seen


async def refused(server: SSL.Context, client: SSL.Context) -> list[str]:
    """What server and client say of a handshake that fails on both sides."""
    return [str(error) for error in await outcomes(*stream_pair(server, client)) if isinstance(error, TlsError)]


@in_trio_without_waiting
async def test_tls_1_3_with_aes_128_is_what_two_of_ours_agree_on() -> None:
    session = await agreed(context_of(NODE1, BOTH), context_of(NODE2, BOTH))
    assert (session.version, session.cipher, session.peer_name) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "CN=node1")


@in_trio_without_waiting
async def test_tls_1_2_has_forward_secrecy_and_authenticated_encryption() -> None:
    session = await agreed(context_of(NODE1, BOTH), context_of(NODE2, BOTH, maximum="1.2"))
    assert (session.version, session.cipher) == ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")


@in_trio_without_waiting
async def test_ends_without_a_common_version_say_so() -> None:
    said = await refused(context_of(NODE1, BOTH, minimum="1.3"), context_of(NODE2, BOTH, maximum="1.2"))
    assert len(said) == 2
    assert all("no TLS version or cipher in common" in text for text in said)


@in_trio_without_waiting
async def test_ends_without_a_common_cipher_say_so() -> None:
    said = await refused(
        context_of(NODE1, BOTH, maximum="1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
        context_of(NODE2, BOTH, maximum="1.2", ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"),
    )
    assert "no TLS version or cipher in common (no shared cipher)" in said[0]
    assert "refused the TLS handshake, perhaps because no cipher is in common" in said[1]


@pytest.mark.parametrize(
    ("ciphers", "version", "expected"),
    [
        ("ECDHE-ECDSA-AES256-GCM-SHA384", "1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("TLS_AES_256_GCM_SHA384", "1.3", "TLS_AES_256_GCM_SHA384"),
        ("TLS_AES_256_GCM_SHA384", "1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305:TLS_AES_256_GCM_SHA384", "1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305:TLS_AES_256_GCM_SHA384", "1.3", "TLS_AES_256_GCM_SHA384"),
    ],
)
@in_trio_without_waiting
async def test_a_cipher_list_holds_for_the_version_that_its_names_belong_to(
    ciphers: str, version: str, expected: str
) -> None:
    session = await agreed(context_of(NODE1, BOTH), context_of(NODE2, BOTH, ciphers=ciphers, maximum=version))
    assert session.cipher == expected


@pytest.mark.parametrize("ciphers", ["FOO", "aNULL", "eNULL:@SECLEVEL=0", "aNULL:@SECLEVEL=0", "TLS_FOO", "é", ":"])
def test_ciphers_that_do_not_exist_or_protect_nothing_are_refused(ciphers: str) -> None:
    with pytest.raises(CredentialsError, match="knows no cipher in"):
        context_of(NODE1, BOTH, ciphers=ciphers)


@pytest.mark.parametrize("ciphers", ["ALL:@SECLEVEL=0", "ALL:COMPLEMENTOFALL:@SECLEVEL=0", "DEFAULT:+aNULL:+eNULL"])
def test_no_cipher_list_lets_a_peer_without_certificate_or_plain_text_in(ciphers: str) -> None:
    offered = SSL.Connection(context_of(NODE1, BOTH, ciphers=ciphers)).get_cipher_list()
    assert not [name for name in offered if name.startswith(("ADH", "AECDH")) or "NULL" in name]
    assert offered


@in_trio_without_waiting
async def test_a_peer_without_certificate_is_refused_whatever_openssl_thinks() -> None:
    server, client = context_of(NODE1, BOTH, maximum="1.2"), context_of(NODE2, BOTH)
    server.set_verify(SSL.VERIFY_NONE)
    for context in (server, client):
        context.set_cipher_list(b"aNULL:@SECLEVEL=0")
    _, at_client = await outcomes(*stream_pair(server, client))
    assert str(at_client) == "the server presented no certificate; both sides must present one"


@in_trio_without_waiting
async def test_an_end_that_does_not_verify_takes_any_certificate() -> None:
    stranger = self_signed("stranger")
    session = await agreed(context_of(stranger, (NODE2,)), context_of(NODE2, verify=False))
    assert session.peer_name == "CN=stranger"


@pytest.mark.parametrize(("minimum", "maximum"), [("1.1", None), ("1.2", "1.1"), ("1.2", "1.4")])
def test_a_version_that_is_not_ours_is_refused(minimum: str, maximum: str | None) -> None:
    with pytest.raises(CredentialsError, match=r"expected 1\.2 or 1\.3"):
        context_of(NODE1, BOTH, minimum=minimum, maximum=maximum)


def test_a_maximum_below_the_minimum_is_refused() -> None:
    with pytest.raises(CredentialsError, match="below the minimum"):
        context_of(NODE1, BOTH, minimum="1.3", maximum="1.2")


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n"])
def test_dh_parameters_that_cannot_be_read_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "dh.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CredentialsError, match=r"dh\.pem holds no DH parameters"):
        context_of(NODE1, BOTH, dh_parameters=path)


def test_a_key_that_is_too_short_is_refused() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that it is weak is the point
    with pytest.raises(CredentialsError, match=r"node\.pem \(ee key too small\)") as caught:
        make_context(TlsSettings(certificate=Path("node.pem")), credentials_of(self_signed("node1", key=key), BOTH))
    assert "2048 bits" in str(caught.value)
