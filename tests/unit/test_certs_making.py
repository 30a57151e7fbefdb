"""What is in the certificates that are made."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from lab import certificates as lab
from pytunnel.certs.errors import CertsError
from pytunnel.certs.making import Identity, issue, make_ca, make_key, make_self_signed, valid_for
from pytunnel.certs.names import parse_names
from pytunnel.tls.credentials import PrivateKey

NODE = parse_names(["node1.my.cluster"], ["10.0.0.1"])


@pytest.fixture(scope="module")
def ca() -> Identity:
    return make_ca("Test CA", valid_for(100), make_key())


@pytest.fixture(scope="module")
def rsa_key() -> PrivateKey:
    return make_key(2048)


def test_a_key_is_on_p256_unless_rsa_is_asked_for(rsa_key: PrivateKey) -> None:
    key = make_key()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert isinstance(rsa_key, rsa.RSAPrivateKey)
    assert rsa_key.key_size == 2048


@pytest.mark.parametrize("bits", [0, 1024, 2047, 8193, 1_000_000])
def test_an_rsa_key_that_nobody_should_use_is_refused(bits: int) -> None:
    with pytest.raises(CertsError, match=f"--rsa {bits}: expected .* from 2048 to 8192"):
        make_key(bits)


def test_validity_begins_an_hour_ago_because_clocks_differ() -> None:
    now = datetime.datetime(2026, 11, 22, 4, tzinfo=datetime.UTC)
    validity = valid_for(2, now)
    assert (validity.begin.hour, validity.end.day) == (3, 24)


@pytest.mark.parametrize("days", [-1, 0, 365_001, 10**9])
def test_days_that_make_no_sense_are_refused(days: int) -> None:
    with pytest.raises(CertsError, match=f"--days {days}: expected a number from 1 to 365000"):
        valid_for(days)


def test_the_longest_validity_can_be_made() -> None:
    assert make_self_signed(NODE, valid_for(365_000), make_key()).certificate.not_valid_after_utc.year > 3000


def test_a_ca_issues_for_nodes_but_makes_no_further_cas(ca: Identity) -> None:
    constraints = ca.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)


def test_a_ca_s_key_only_signs_certificates_and_crls(ca: Identity) -> None:
    usage = ca.certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)


def test_a_node_s_certificate_is_its_ca_s(ca: Identity) -> None:
    issue(ca, NODE, valid_for(1), make_key()).certificate.verify_directly_issued_by(ca.certificate)


def test_a_node_s_certificate_points_to_its_ca_s_key(ca: Identity) -> None:
    certificate = issue(ca, NODE, valid_for(1), make_key()).certificate
    pointed = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert pointed == ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_a_node_is_a_server_and_a_client(ca: Identity) -> None:
    for made in (issue(ca, NODE, valid_for(1), make_key()), make_self_signed(NODE, valid_for(1), make_key())):
        usage = made.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_node_can_t_issue_certificates(ca: Identity) -> None:
    for made in (issue(ca, NODE, valid_for(1), make_key()), make_self_signed(NODE, valid_for(1), make_key())):
        constraints = made.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert not constraints.ca


def test_only_an_rsa_key_may_encipher_keys(ca: Identity, rsa_key: PrivateKey) -> None:
    def usage(key: PrivateKey) -> x509.KeyUsage:
        certificate = issue(ca, NODE, valid_for(1), key).certificate
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value

    assert (usage(rsa_key).digital_signature, usage(rsa_key).key_encipherment) == (True, True)
    assert (usage(make_key()).digital_signature, usage(make_key()).key_encipherment) == (True, False)


def test_a_self_signed_certificate_has_no_key_usage_which_openssl_1_1_would_refuse() -> None:
    certificate = make_self_signed(NODE, valid_for(1), make_key()).certificate
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.KeyUsage)


def test_a_node_named_like_its_ca_is_refused() -> None:
    ca = make_ca("node1.my.cluster", valid_for(100), make_key())
    with pytest.raises(CertsError, match=r"the CA has the common name node1\.my\.cluster itself"):
        issue(ca, NODE, valid_for(1), make_key())


def test_a_certificate_that_outlives_its_ca_is_refused_with_the_days_that_are_left(ca: Identity) -> None:
    with pytest.raises(CertsError, match="give --days 99 or less"):
        issue(ca, NODE, valid_for(101), make_key())


def test_a_ca_made_by_other_means_can_issue() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Other CA")])
    validity = valid_for(10)
    bare = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, validity.begin, validity.end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    made = issue(Identity(bare, key), NODE, valid_for(1), make_key())
    made.certificate.verify_directly_issued_by(bare)


def test_the_key_identifier_that_a_ca_chose_for_itself_is_used() -> None:
    other = lab.authority("Other CA")
    chosen = x509.SubjectKeyIdentifier(b"chosen by its owner")
    certificate = (
        x509.CertificateBuilder(
            other.certificate.subject,
            other.certificate.subject,
            other.key.public_key(),
            2,
            other.certificate.not_valid_before_utc,
            other.certificate.not_valid_after_utc,
        )
        .add_extension(chosen, critical=False)
        .sign(other.key, hashes.SHA256())
    )
    made = issue(Identity(certificate, other.key), NODE, valid_for(1), make_key())
    pointed = made.certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert pointed.key_identifier == chosen.digest


def test_a_key_is_not_shown_where_an_identity_is_printed(ca: Identity) -> None:
    assert "key" not in repr(ca)
    assert "PRIVATE" not in repr(ca)


def test_the_combined_text_is_the_key_and_the_certificate(ca: Identity) -> None:
    assert ca.combined_pem == ca.key_pem + ca.certificate_pem
    assert ca.combined_pem.startswith("-----BEGIN PRIVATE KEY-----")
