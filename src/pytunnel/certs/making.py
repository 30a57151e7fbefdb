"""Make keys and certificates: a CA's, those that it issues to nodes, and self-signed ones.

Values only; pytunnel.certs.storing puts them into files.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pytunnel.certs.errors import CertsError
from pytunnel.certs.names import LONGEST_COMMON_NAME, Names
from pytunnel.tls.credentials import PrivateKey, describe_subject, expiry_date
from pytunnel.tls.identity import common_names

LEAST_RSA, MOST_RSA = 2048, 8192
"""Bits: below, OpenSSL refuses the key; above, each handshake takes a noticeable part of a second."""
MOST_DAYS = 365_000
"""What the longest of the field's recipes asks for: a thousand years."""

_BACKDATED = datetime.timedelta(hours=1)  # the clocks of a cluster's hosts are never quite the same
_PUBLIC_EXPONENT = 65537


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and the key that belongs to it."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)

    @property
    def certificate_pem(self) -> str:
        """The certificate alone."""
        return certificate_pem(self.certificate)

    @property
    def key_pem(self) -> str:
        """The key alone, in PKCS#8, without a passphrase: nobody is there to type it when a server starts."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    @property
    def combined_pem(self) -> str:
        """Key and certificate in one text, as `tcert` without `tkey` wants it."""
        return self.key_pem + self.certificate_pem


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds, in UTC."""

    begin: datetime.datetime
    end: datetime.datetime


def valid_for(days: int, now: datetime.datetime | None = None) -> Validity:
    """From an hour before `now` (None: this moment) until `days` days after it. Raises CertsError."""
    if not 1 <= days <= MOST_DAYS:
        raise CertsError(f"--days {days}: expected a number from 1 to {MOST_DAYS}")
    moment = now or datetime.datetime.now(datetime.UTC)
    return Validity(moment - _BACKDATED, moment + datetime.timedelta(days=days))


def make_key(rsa_bits: int | None = None) -> PrivateKey:
    """An ECDSA key on P-256, or an RSA key of `rsa_bits`. Raises CertsError for a size that nobody should use."""
    if rsa_bits is None:
        return ec.generate_private_key(ec.SECP256R1())
    if not LEAST_RSA <= rsa_bits <= MOST_RSA:
        raise CertsError(f"--rsa {rsa_bits}: expected a number of bits from {LEAST_RSA} to {MOST_RSA}")
    return rsa.generate_private_key(_PUBLIC_EXPONENT, rsa_bits)


def make_ca(common_name: str, validity: Validity, key: PrivateKey) -> Identity:
    """A certification authority that may issue certificates for nodes, but no further authorities.

    `common_name` is any text. Raises CertsError where it can't be a name.
    """
    if not (0 < len(common_name) <= LONGEST_COMMON_NAME and common_name.isprintable()):
        raise CertsError(f"{common_name!r} can't be a CA's name; expected 1 to {LONGEST_COMMON_NAME} characters")
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(subject, key, validity)
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return Identity(_sign(builder, key), key)


def issue(ca: Identity, names: Names, validity: Validity, key: PrivateKey) -> Identity:
    """A certificate of `ca` for one node, which is a server to some nodes and a client to others.

    Raises CertsError where such a certificate would not work.
    """
    _check_issuable(ca.certificate, names, validity)
    usage = _key_usage(digital_signature=True, key_encipherment=isinstance(key, rsa.RSAPrivateKey))
    builder = (
        _node_builder(names, key, validity)
        .issuer_name(ca.certificate.subject)
        .add_extension(_issuer_identifier(ca), critical=False)
        .add_extension(usage, critical=True)
    )
    return Identity(_sign(builder, ca.key), key)


def make_self_signed(names: Names, validity: Validity, key: PrivateKey) -> Identity:
    """A certificate signed by its own key, which others trust by having it in their bundle. It can't issue others.

    It has no key usage: OpenSSL 1.1 takes a certificate for self-signed only if its key usage, where there is one,
    allows to sign certificates, and just that is not allowed here.
    """
    builder = _node_builder(names, key, validity).issuer_name(names.subject)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return Identity(_sign(builder.add_extension(identifier, critical=False), key), key)


def certificate_pem(certificate: x509.Certificate) -> str:
    """The certificate as PEM text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _check_issuable(ca: x509.Certificate, names: Names, validity: Validity) -> None:
    if names.common_name in common_names(ca):
        raise CertsError(
            f"the CA has the common name {names.common_name} itself; a certificate of the same name looks "
            "self-signed and is refused. Make a CA with another name"
        )
    if validity.end > ca.not_valid_after_utc:
        days = max((ca.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days, 0)
        raise CertsError(
            f"the CA {describe_subject(ca)} ends on {expiry_date(ca)}, before the new certificate would: "
            f"give --days {days} or less, or change to a new CA (pytunnel certs rotate --help)"
        )


def _node_builder(names: Names, key: PrivateKey, validity: Validity) -> x509.CertificateBuilder:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        _builder(names.subject, key, validity)
        .add_extension(names.alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
    )


def _builder(subject: x509.Name, key: PrivateKey, validity: Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.begin)
        .not_valid_after(validity.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _sign(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest)


def _issuer_identifier(ca: Identity) -> x509.AuthorityKeyIdentifier:
    """What the CA calls its key; its own name for it, if it has one, need not be the usual digest."""
    try:
        own = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
