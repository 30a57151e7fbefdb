"""Tell in plain lines what is in a PEM file."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from pytunnel.certs.authority import is_authority
from pytunnel.tls.credentials import check_key, describe_name, describe_subject, holds_key, read_certificates, read_key
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.identity import MALFORMED, alternatives

_WIDTH = 12
_ROLES = {ExtendedKeyUsageOID.SERVER_AUTH: "as server", ExtendedKeyUsageOID.CLIENT_AUTH: "as client"}
_USAGES = (
    ("digital_signature", "sign"),
    ("key_encipherment", "encipher keys"),
    ("key_agreement", "agree on keys"),
    ("key_cert_sign", "issue certificates"),
    ("crl_sign", "revoke certificates"),
)


def describe_file(path: Path, now: datetime.datetime | None = None) -> Iterator[str]:
    """Lines about all certificates of the file, and about the key if it holds one. Raises CredentialsError."""
    moment = now or datetime.datetime.now(datetime.UTC)
    certificates = read_certificates(path)
    for number, certificate in enumerate(certificates, start=1):
        yield f"{path}: certificate {number} of {len(certificates)}"
        try:
            for label, text in _describe(certificate, moment):
                yield f"  {label:<{_WIDTH}} {text}"
        except MALFORMED as error:
            yield f"  breaks the rules of X.509: {error}"
    if holds_key(path):
        yield f"{path}: {_describe_own_key(path, certificates)}"


def _describe(certificate: x509.Certificate, now: datetime.datetime) -> Iterator[tuple[str, str]]:
    san = alternatives(certificate)
    names = [f"DNS:{name}" for name in san.get_values_for_type(x509.DNSName)]
    names += [f"IP:{address}" for address in san.get_values_for_type(x509.IPAddress)]
    yield "subject", describe_subject(certificate)
    yield "names", ", ".join(names) or "none besides the common name"
    issuer = describe_name(certificate.issuer)
    yield "issuer", f"{issuer} (self-signed)" if certificate.issuer == certificate.subject else issuer
    yield "valid", _describe_validity(certificate, now)
    yield "key", _describe_key(certificate)
    yield "signature", _describe_signature(certificate)
    yield "CA", "yes" if is_authority(certificate) else "no"
    yield "may be used", _describe_roles(certificate)
    yield "key may", _describe_usage(certificate)
    yield "serial", f"{certificate.serial_number:X}"
    yield "SHA-256", certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _describe_validity(certificate: x509.Certificate, now: datetime.datetime) -> str:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    span = f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    if now > end:
        return f"{span}, expired"
    return f"{span}, not yet valid" if now < begin else f"{span}, {(end - now).days} days left"


def _describe_key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "of an unknown kind"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA on the curve {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey):
        return f"{'RSA' if isinstance(key, rsa.RSAPublicKey) else 'DSA'}, {key.key_size} bits"
    return type(key).__name__.removesuffix("PublicKey")


def _describe_signature(certificate: x509.Certificate) -> str:
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return f"of an unknown kind ({certificate.signature_algorithm_oid.dotted_string})"
    return f"with {digest.name.upper()}" if digest is not None else "with the digest that belongs to the key"


def _describe_roles(certificate: x509.Certificate) -> str:
    try:
        roles = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "for everything"
    return ", ".join(_ROLES.get(role, role.dotted_string) for role in roles)


def _describe_usage(certificate: x509.Certificate) -> str:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return "do everything"
    return ", ".join(text for attribute, text in _USAGES if getattr(usage, attribute)) or "do nothing that TLS needs"


def _describe_own_key(path: Path, certificates: list[x509.Certificate]) -> str:
    try:
        key = read_key(path, combined=True)
        check_key(key, path, certificates[0], path)
    except CredentialsError as error:
        return str(error)
    return "private key of certificate 1"
