"""Certificate, key and CA files that can not be used: what is said of each, in one sentence."""

from __future__ import annotations

import base64
import errno
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.certificates import (
    authority,
    bundle_pem,
    expired,
    issued,
    revoking,
    self_signed,
)
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import expiry_date, load_credentials
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.settings import TlsSettings
from tests.support.credential_files import combined, matches, pem_of, refusal, write

NODE1, NODE2 = self_signed("node1.my.cluster"), self_signed("node2.my.cluster")
CA = authority("Authority")
ISSUED = issued(CA, "node1.my.cluster")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with ca.pem, a bundle of both nodes."""
    write(tmp_path / "ca.pem", bundle_pem([NODE1, NODE2]))
    return tmp_path


# What can't be used.


def test_no_certificate_at_all_is_refused() -> None:
    assert "both sides of a tunnel present one: give --cert, or tcert in [sst]" in refusal(TlsSettings())


def test_a_missing_file_is_named(place: Path) -> None:
    wanted = TlsSettings(certificate=place / "gone.pem", ca=place / "ca.pem")
    assert re.search(r"the certificate file \S+/gone\.pem does not exist", refusal(wanted, errno.ENOENT))


def test_a_missing_key_file_is_named(place: Path) -> None:
    wanted = replace(combined(place, NODE1.combined_pem()), key=place / "gone.key")
    assert re.search(r"the key file \S+/gone\.key does not exist", refusal(wanted, errno.ENOENT))


def test_a_directory_in_a_file_s_place_is_named(place: Path) -> None:
    said = refusal(TlsSettings(certificate=place, ca=place / "ca.pem"))
    assert said.startswith(f"the certificate file {place} can't be read: Is a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file; run the tests as another user too")
def test_a_file_that_is_not_ours_to_read_is_named(place: Path) -> None:
    wanted = combined(place, NODE1.combined_pem())
    (place / "node.pem").chmod(0)
    said = refusal(wanted)
    assert said.startswith(f"the certificate file {place}/node.pem can't be read: Permission denied; expected")


def test_another_certificate_s_key_is_refused(place: Path) -> None:
    said = refusal(combined(place, NODE2.key_pem() + NODE1.certificate_pem()))
    assert "does not belong to the certificate /CN=node1.my.cluster" in said


def test_the_files_of_another_certificate_s_key_are_named(place: Path) -> None:
    alone = combined(place, NODE1.certificate_pem())
    said = refusal(replace(alone, key=write(place / "node.key", NODE2.key_pem())))
    assert re.search(r"the key in \S+/node\.key does not belong to .* in \S+/node\.pem", said)


def test_an_expired_certificate_is_refused_with_its_date(place: Path) -> None:
    own = expired(CA, "node1.my.cluster")
    said = refusal(combined(place, own.combined_pem()))
    assert f"/CN=node1.my.cluster in {place}/node.pem expired on {expiry_date(own.certificate)}; renew it" in said


def test_a_certificate_of_the_future_is_refused(place: Path) -> None:
    own = issued(CA, "node1.my.cluster", start=datetime.now(UTC) + timedelta(days=2))
    assert "is not valid before" in refusal(combined(place, own.combined_pem()))


def test_a_certificate_is_good_in_its_last_second_and_bad_in_the_next(place: Path) -> None:
    wanted = combined(place, NODE1.combined_pem())
    end = NODE1.certificate.not_valid_after_utc
    assert matches(load_credentials(wanted, now=end), NODE1)
    with pytest.raises(CredentialsError, match="expired on"):
        load_credentials(wanted, now=end + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no PEM text"),
        (b"\0\1\2", "holds no PEM text"),
        (NODE1.key_pem(), "holds no certificate; is it the file of a key?"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate that can be read"),
        (b"-----BEGIN CERTIFICATE-----\n", "holds no certificate that can be read"),
        (NODE1.certificate_pem()[:200], "holds no certificate that can be read"),
        (NODE1.certificate_pem(), "holds no private key; append it, or name the key's file (--key, tkey)"),
        (NODE1.certificate_pem() + NODE1.key_pem()[:90], "the private key in"),
        (
            NODE1.certificate_pem() + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "can't be read",
        ),
    ],
)
def test_a_file_without_what_it_should_hold_is_refused(place: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(combined(place, content))


def test_a_key_file_without_a_key_is_refused(place: Path) -> None:
    wanted = replace(combined(place, NODE1.combined_pem()), key=place / "ca.pem")
    assert "ca.pem holds no private key; expected a PEM private key" in refusal(wanted)


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL], ids=["new", "old"]
)
def test_an_encrypted_key_is_refused(place: Path, form: serialization.PrivateFormat) -> None:
    locked = NODE1.key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
    assert "is encrypted, and nobody is there to type its passphrase" in refusal(
        combined(place, locked + NODE1.certificate_pem())
    )


def test_a_key_of_a_kind_that_tls_cannot_use_is_refused(place: Path) -> None:
    assert "make an RSA or ECDSA key" in refusal(
        combined(place, pem_of(x25519.X25519PrivateKey.generate(), NODE1.certificate))
    )


def test_a_pipe_is_refused_at_once(place: Path) -> None:
    os.mkfifo(place / "node.pem")
    assert "node.pem is no regular file" in refusal(TlsSettings(certificate=place / "node.pem", ca=place / "ca.pem"))


def test_a_device_that_never_ends_is_refused_at_once(place: Path) -> None:
    wanted = TlsSettings(certificate=Path("/dev/zero"), ca=place / "ca.pem")
    assert "/dev/zero is no regular file" in refusal(wanted)


def test_a_file_that_is_far_too_large_is_refused(place: Path) -> None:
    wanted = combined(place, NODE1.combined_pem())
    with (place / "ca.pem").open("r+b") as file:
        file.truncate(17 * 1024 * 1024)
    assert "ca.pem is larger than" in refusal(wanted)


def test_a_certificate_of_an_unknown_version_is_refused(place: Path) -> None:
    der = NODE1.certificate.public_bytes(serialization.Encoding.DER)
    strange = der.replace(bytes([0xA0, 3, 2, 1, 2]), bytes([0xA0, 3, 2, 1, 7]))
    assert "holds no certificate that can be read" in refusal(combined(place, _armoured(strange) + NODE1.key_pem()))


def _armoured(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_any_damage_to_a_file_is_refused_in_one_line(place: Path, data: st.DataObject) -> None:
    content = bytearray(NODE1.combined_pem())
    start, end = sorted(data.draw(st.tuples(*2 * [st.integers(0, len(content))])))
    content[start:end] = data.draw(st.binary(max_size=20))
    said = ""
    try:
        load_credentials(combined(place, bytes(content)))
    except CredentialsError as error:
        said = str(error)
    assert said.isprintable()


# What comes to light when a part of a certificate is looked at, not when it is read.


def with_der(certificate: bytes, old: bytes, new: bytes) -> bytes:
    """A certificate or a list in PEM with other bytes in it."""
    label = x509_label(certificate)
    der = base64.b64decode(b"".join(certificate.splitlines()[1:-1]))
    assert old in der
    return b"-----BEGIN %s-----\n" % label + base64.encodebytes(der.replace(old, new)) + b"-----END %s-----\n" % label


def x509_label(pem: bytes) -> bytes:
    return pem.splitlines()[0].removeprefix(b"-----BEGIN ").removesuffix(b"-----")


P256 = bytes.fromhex("2a8648ce3d030107")


def test_a_certificate_with_a_key_of_an_unknown_kind_is_refused(place: Path) -> None:
    strange = with_der(NODE1.certificate_pem(), P256, P256[:-1] + b"\x7f")
    said = refusal(combined(place, strange + NODE1.key_pem()))
    assert f"the certificate in {place}/node.pem breaks the rules of X.509" in said


def test_a_certificate_with_a_subject_that_is_no_text_is_refused(place: Path) -> None:
    strange = with_der(NODE1.certificate_pem(), b"node1", b"node\xff")
    assert "breaks the rules of X.509" in refusal(combined(place, strange + NODE1.key_pem()))


def test_a_revocation_list_of_an_unknown_version_is_refused(place: Path) -> None:
    strange = with_der(revoking(CA, [ISSUED]), bytes([2, 1, 1, 0x30]), bytes([2, 1, 7, 0x30]))
    write(place / "ca.pem", CA.certificate_pem() + strange)
    assert "a revocation list (CRL) in" in refusal(combined(place, NODE1.combined_pem()))


def test_a_revocation_list_that_openssl_alone_cannot_read_is_refused(place: Path) -> None:
    issuer_text = bytes([0x0C, 9]) + b"Authority"
    strange = with_der(revoking(CA, [ISSUED]), issuer_text, bytes([0x04, 9]) + b"Authority")  # no string
    write(place / "ca.pem", CA.certificate_pem() + strange)
    wanted = combined(place, NODE1.combined_pem())
    with pytest.raises(CredentialsError, match="OpenSSL can't read one of the revocation lists"):
        make_context(wanted, load_credentials(wanted))


# Places that can't be looked at.


def test_a_name_that_is_too_long_is_named(place: Path) -> None:
    wanted = combined(place, NODE1.combined_pem())
    assert "File name too long" in refusal(replace(wanted, ca=place / ("a" * 300)))
    assert "File name too long" in refusal(replace(wanted, revoked=(place / ("a" * 300),)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file; run the tests as another user too")
def test_a_directory_that_is_not_ours_to_enter_is_named(place: Path) -> None:
    wanted = combined(place, NODE1.combined_pem())
    (place / "closed").mkdir(mode=0)
    assert "closed/ca.pem can't be read: Permission denied" in refusal(replace(wanted, ca=place / "closed" / "ca.pem"))
