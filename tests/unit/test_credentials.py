"""What is read from certificate, key and CA files that can be used, and what is warned of."""

from __future__ import annotations

import errno
import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from lab.certificates import (
    authority,
    bundle_pem,
    issued,
    revoking,
    rsa_key,
    self_signed,
)
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import describe_subject, key_warnings, load_credentials
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.settings import TlsSettings
from tests.support.credential_files import combined, matches, pem_of, refusal, write
from tests.support.credentials import settings_of

NODE1, NODE2 = self_signed("node1.my.cluster"), self_signed("node2.my.cluster")
CA = authority("Authority")
ISSUED = issued(CA, "node1.my.cluster")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with ca.pem, a bundle of both nodes."""
    write(tmp_path / "ca.pem", bundle_pem([NODE1, NODE2]))
    return tmp_path


# What can be used.


@pytest.mark.parametrize(
    "content",
    [
        NODE1.key_pem() + NODE1.certificate_pem(),
        NODE1.certificate_pem() + NODE1.key_pem(),
        b"subject=CN = node1\n\n" + NODE1.certificate_pem() + b"a remark\n" + NODE1.key_pem() + b"\n\n",
        NODE1.combined_pem().replace(b"\n", b"\r\n"),
        NODE1.combined_pem().rstrip(b"\n"),
    ],
    ids=["key first", "certificate first", "with remarks", "line ends of Windows", "no line end at the end"],
)
def test_a_combined_file_is_read(place: Path, content: bytes) -> None:
    loaded = load_credentials(combined(place, content))
    assert matches(loaded, NODE1)
    assert (loaded.chain, loaded.trusted, loaded.warnings) == ((), (NODE1.certificate, NODE2.certificate), ())


def test_a_key_in_a_file_of_its_own_is_read(place: Path) -> None:
    alone = combined(place, NODE1.certificate_pem())
    assert matches(load_credentials(replace(alone, key=write(place / "node.key", NODE1.key_pem()))), NODE1)


def test_a_key_file_goes_before_the_key_in_the_certificate_s_file(place: Path) -> None:
    both = combined(place, NODE2.key_pem() + NODE1.certificate_pem())
    assert matches(load_credentials(replace(both, key=write(place / "node.key", NODE1.key_pem()))), NODE1)


def test_the_certificates_behind_our_own_are_its_chain(place: Path) -> None:
    intermediate = issued(CA, "Intermediate")
    chained = combined(place, ISSUED.combined_pem() + intermediate.certificate_pem() + CA.certificate_pem())
    loaded = load_credentials(chained)
    assert matches(loaded, ISSUED)
    assert loaded.chain == (intermediate.certificate, CA.certificate)


def _traditional(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As `openssl ecparam -genkey` writes it: a block with the curve comes first."""
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    return parameters + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def test_a_key_in_openssl_s_older_form_is_read(place: Path) -> None:
    assert isinstance(NODE1.key, ec.EllipticCurvePrivateKey)
    assert matches(load_credentials(combined(place, _traditional(NODE1.key) + NODE1.certificate_pem())), NODE1)


def test_an_rsa_key_is_read(place: Path) -> None:
    own = self_signed("node1", key=rsa_key())
    assert matches(load_credentials(combined(place, own.combined_pem())), own)


def test_an_ed25519_key_is_read(place: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    made = load_credentials(combined(place, pem_of(key, _signed_by_itself(key))))
    assert make_context(TlsSettings(), made)


def _signed_by_itself(key: ed25519.Ed25519PrivateKey) -> x509.Certificate:
    return _like_node1(NODE1.certificate.subject).public_key(key.public_key()).sign(key, None)


def _like_node1(name: x509.Name) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.not_valid_before(NODE1.certificate.not_valid_before_utc)
    return builder.not_valid_after(NODE1.certificate.not_valid_after_utc)


def test_the_key_is_in_no_text_of_the_credentials(place: Path) -> None:
    assert "key" not in repr(load_credentials(combined(place, NODE1.combined_pem()))).lower()


# Trusted certificates.


def test_a_directory_of_trusted_certificates_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "cas"
    directory.mkdir()
    write(directory / "one.pem", NODE1.certificate_pem())
    write(directory / "two.crt", bundle_pem([NODE2, CA]))
    write(directory / "README", b"no certificate\n")
    write(directory / ".hidden.pem", ISSUED.certificate_pem())
    (directory / "1a2b3c4d.0").symlink_to("one.pem")
    (directory / "gone").symlink_to("nowhere")
    (directory / "circle").symlink_to("circle")
    (directory / "deeper").mkdir()
    wanted = replace(combined(tmp_path, NODE1.combined_pem()), ca=directory)
    assert load_credentials(wanted).trusted == (NODE1.certificate, NODE2.certificate, CA.certificate)


def test_a_directory_without_certificates_is_refused(place: Path) -> None:
    (place / "cas").mkdir()
    assert "cas holds no PEM certificate" in refusal(replace(combined(place, NODE1.combined_pem()), ca=place / "cas"))


def test_a_missing_ca_file_is_named(place: Path) -> None:
    wanted = replace(combined(place, NODE1.combined_pem()), ca=place / "nowhere.pem")
    assert re.search(r"the CA file \S+/nowhere\.pem does not exist", refusal(wanted, errno.ENOENT))


def test_no_ca_is_refused_where_peers_are_verified(place: Path) -> None:
    wanted = replace(combined(place, NODE1.combined_pem()), ca=None)
    assert "no CA is configured, so no peer could be verified" in refusal(wanted)


def test_no_ca_is_needed_where_peers_are_not_verified(place: Path) -> None:
    wanted = replace(combined(place, NODE1.combined_pem()), ca=None, verify=False)
    assert load_credentials(wanted).trusted == ()


def test_a_file_in_openssl_s_form_with_trust_settings_is_refused(place: Path) -> None:
    write(place / "ca.pem", CA.certificate_pem().replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE"))
    assert "ca.pem holds no certificate that can be read" in refusal(combined(place, NODE1.combined_pem()))


# Warnings.


def test_a_key_that_is_gone_when_its_mode_is_asked_for_is_named(place: Path) -> None:
    with pytest.raises(CredentialsError, match=r"the key file .* does not exist"):
        key_warnings(place / "gone.pem")


@pytest.mark.parametrize(("mode", "shown"), [(0o604, "0604"), (0o644, "0644"), (0o777, "0777")])
def test_a_key_that_every_user_can_read_is_warned_of(place: Path, mode: int, shown: str) -> None:
    wanted = combined(place, NODE1.combined_pem())
    (place / "node.pem").chmod(mode)
    (warning,) = load_credentials(wanted).warnings
    assert warning.endswith(f"is open to every user of this host (mode {shown}); run: chmod o-rwx {place}/node.pem")


def test_a_key_that_its_group_can_read_is_not_warned_of(place: Path) -> None:
    wanted = combined(place, NODE1.combined_pem())
    (place / "node.pem").chmod(0o640)
    assert load_credentials(wanted).warnings == ()


# Names for people.


def test_a_subject_is_shown_as_openssl_writes_it() -> None:
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "My"), x509.NameAttribute(NameOID.COMMON_NAME, "node1")]
    )
    assert describe_subject(_named(name)) == "/O=My/CN=node1"


def test_a_subject_that_would_forge_a_line_is_shown_escaped() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node1\nINFO all is well")])
    assert describe_subject(_named(name)) == "/CN=node1\\nINFO all is well"


def _named(name: x509.Name) -> x509.Certificate:
    return _like_node1(name).public_key(NODE1.key.public_key()).sign(NODE1.key, hashes.SHA256())


def test_files_of_the_lab_are_what_we_read(tmp_path: Path) -> None:
    assert matches(load_credentials(settings_of(tmp_path / "node1", NODE1, [NODE2])), NODE1)


# Revocation lists.


def test_a_revocation_list_in_the_ca_file_is_read(place: Path) -> None:
    wanted = combined(place, NODE1.combined_pem())
    write(place / "ca.pem", CA.certificate_pem() + revoking(CA, [ISSUED]) + bundle_pem([NODE1]))
    found = load_credentials(wanted)
    assert [item.issuer for item in found.revoked] == [CA.certificate.subject]
    assert found.trusted == (CA.certificate, NODE1.certificate)


def test_revocation_lists_in_files_of_the_ca_directory_are_read(place: Path) -> None:
    wanted = combined(place, NODE1.combined_pem())
    directory = place / "trusted"
    directory.mkdir()
    write(directory / "ca.crt", CA.certificate_pem())
    write(directory / "ca.crl", revoking(CA, [ISSUED]))
    (directory / "0123abcd.r0").symlink_to("ca.crl")
    assert len(load_credentials(replace(wanted, ca=directory)).revoked) == 1


def test_a_revocation_list_that_cannot_be_read_is_an_error(place: Path) -> None:
    broken = b"-----BEGIN X509 CRL-----\nbm8gbGlzdA==\n-----END X509 CRL-----\n"
    wanted = combined(place, NODE1.combined_pem())
    write(place / "ca.pem", CA.certificate_pem() + broken)
    assert "a revocation list (CRL) in" in refusal(wanted)
