"""CAs between a root and the nodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from lab import certificates as lab

DAY = timedelta(days=1)


def intermediate(
    issuer: lab.Identity,
    name: str,
    *,
    days: int = 100,
    key: lab.PrivateKey | None = None,
) -> lab.Identity:
    """A CA that `issuer` has made, which began a hundred days ago and ends in `days` days."""
    return made_with(x509.BasicConstraints(ca=True, path_length=None), issuer=issuer, name=name, days=days, key=key)


def made_with(
    *critical: x509.ExtensionType,
    issuer: lab.Identity,
    name: str,
    days: int = 100,
    key: lab.PrivateKey | None = None,
) -> lab.Identity:
    """A certificate with these extensions alone, all of them critical, which began a hundred days ago."""
    own_key = key or lab.elliptic_key()
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer.certificate.subject,
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
        own_key.public_key(),
        x509.random_serial_number(),
        now - 100 * DAY,
        now + days * DAY,
    )
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    return lab.Identity(builder.sign(issuer.key, hashes.SHA256()), own_key)
