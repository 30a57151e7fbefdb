"""Throw-away certificates, as database administrators make them.

Self-signed ones look as `openssl req -x509 -days 365000` makes them: a common name, no alternative names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from lab.account import Account

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

SELF_SIGNED_DAYS = 365_000
ISSUED_DAYS = 365


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and the key that belongs to it."""

    certificate: x509.Certificate
    key: PrivateKey

    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The key alone, PKCS#8, without a pass phrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def combined_pem(self) -> bytes:
        """Key and certificate in one text, as `tcert` without `tkey` wants it."""
        return self.key_pem() + self.certificate_pem()


def elliptic_key() -> PrivateKey:
    """A P-256 key: the fast kind."""
    return ec.generate_private_key(ec.SECP256R1())


def rsa_key() -> PrivateKey:
    """An RSA key of 2048 bits: what most clusters in the field still have."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def self_signed(common_name: str, *, days: int = SELF_SIGNED_DAYS, key: PrivateKey | None = None) -> Identity:
    """A certificate signed by its own key, valid from now for `days` days."""
    own_key = key or elliptic_key()
    start = _now()
    builder = _builder(common_name, own_key, start, start + timedelta(days=days))
    builder = builder.issuer_name(_name(common_name))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_signed_by(own_key), critical=False)
    return Identity(builder.sign(own_key, hashes.SHA256()), own_key)


def authority(common_name: str) -> Identity:
    """A certification authority."""
    return self_signed(common_name)


def issued(
    issuer: Identity,
    common_name: str,
    *,
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    key: PrivateKey | None = None,
) -> Identity:
    """A certificate of `issuer`: from now for a year, unless `start` or `end` say otherwise.

    `names` and `addresses` become its alternative names; without any it has none.
    """
    own_key = key or elliptic_key()
    first = start or _now()
    builder = _builder(common_name, own_key, first, end or first + timedelta(days=ISSUED_DAYS))
    builder = builder.issuer_name(issuer.certificate.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_signed_by(issuer.key), critical=False)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Identity(builder.sign(issuer.key, hashes.SHA256()), own_key)


def expired(issuer: Identity, common_name: str) -> Identity:
    """A certificate of `issuer` that ended yesterday."""
    yesterday = _now() - timedelta(days=1)
    return issued(issuer, common_name, start=yesterday - timedelta(days=ISSUED_DAYS), end=yesterday)


def revoking(issuer: Identity, revoked: Iterable[Identity], *, start: datetime | None = None) -> bytes:
    """A revocation list of `issuer`, as PEM: from now, or from `start`, for 30 days."""
    moment = start or _now()
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(moment).next_update(moment + timedelta(days=30))
    for identity in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(identity.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(moment).build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def bundle_pem(identities: Iterable[Identity]) -> bytes:
    """The certificates of all of them in one text, as `tca` wants it where nodes are self-signed."""
    return b"".join(identity.certificate_pem() for identity in identities)


def write_secret(path: Path, content: bytes, owner: Account) -> Path:
    """Write a file that only `owner` can read; returns `path`."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    owner.own(path)
    return path


def write_public(path: Path, content: bytes) -> Path:
    """Write a file that everyone can read; returns `path`."""
    path.write_bytes(content)
    path.chmod(0o644)
    return path


def _builder(common_name: str, key: PrivateKey, start: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed_by(key: PrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _now() -> datetime:
    # A minute back: the clocks of two hosts are never quite the same.
    return datetime.now(UTC) - timedelta(minutes=1)
