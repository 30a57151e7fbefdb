"""Certificate and key files of a test, and what is said where they are refused."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from lab.certificates import Identity
from pytunnel.tls.credentials import Credentials, load_credentials
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.settings import TlsSettings


def write(path: Path, content: bytes) -> Path:
    """A file that nobody else can read."""
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def combined(place: Path, content: bytes) -> TlsSettings:
    """Settings with `content` as the certificate's file."""
    return TlsSettings(certificate=write(place / "node.pem", content), ca=place / "ca.pem")


def refusal(wanted: TlsSettings, exit_code: int = errno.EINVAL) -> str:
    """Why the files can't be used."""
    with pytest.raises(CredentialsError) as caught:
        load_credentials(wanted)
    assert caught.value.exit_code == exit_code
    assert "PRIVATE KEY" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def matches(loaded: Credentials, own: Identity) -> bool:
    """Whether the certificate is this one, and the key the certificate's."""
    return loaded.certificate == own.certificate and loaded.key.public_key() == own.key.public_key()


def pem_of(key: ed25519.Ed25519PrivateKey | x25519.X25519PrivateKey, certificate: x509.Certificate) -> bytes:
    """A combined file with a key of one of the newer kinds."""
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded + certificate.public_bytes(serialization.Encoding.PEM)
