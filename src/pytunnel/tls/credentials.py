"""Read the certificate, the key and the trusted certificates of one end, and say what is wrong with them.

Everything is checked here, once, before anything listens or dials: that files can be read, that the key is the
certificate's, that dates hold, that the CA is there. The result is a value that contexts are made of.
"""

from __future__ import annotations

import datetime
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from pytunnel.tls.errors import CredentialsError, MissingFile
from pytunnel.tls.identity import MALFORMED
from pytunnel.tls.settings import TlsSettings

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

_CERTIFICATE, _CA = "certificate file", "CA file"  # as errors call them
_LARGEST_FILE = 16 * 1024 * 1024  # a bundle of thousands of certificates stays far below


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one end shows and whom it trusts, parsed.

    `chain` are the certificates behind our own in its file, `trusted` the CA's; neither is sorted.
    `warnings` are sentences that the log should hold although the files can be used.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    trusted: tuple[x509.Certificate, ...]
    warnings: tuple[str, ...] = ()


def load_credentials(settings: TlsSettings, *, now: datetime.datetime | None = None) -> Credentials:
    """Read and check all files that `settings` names.

    Raises CredentialsError that names the file, what is wrong with it and what to do.
    """
    if settings.certificate is None:
        raise CredentialsError(
            "no certificate is configured; both sides of a tunnel present one: give --cert, or tcert in [sst]"
        )
    moment = now or datetime.datetime.now(datetime.UTC)
    own, *chain = _read_certificates(settings.certificate, _CERTIFICATE)
    key_file = settings.key or settings.certificate
    key = _read_key(key_file, combined=settings.key is None)
    _check_dates(own, settings.certificate, moment)
    if _public_bytes(key.public_key()) != _public_bytes(own.public_key()):
        raise CredentialsError(
            f"the key in {key_file} does not belong to the certificate "
            f"{describe_subject(own)} in {settings.certificate}; give the key that this certificate was made with"
        )
    return Credentials(own, tuple(chain), key, _read_trusted(settings), _key_warnings(key_file))


def describe_subject(certificate: x509.Certificate) -> str:
    """The subject as people write it, for example `/O=My/CN=node1.my.cluster`."""
    return describe_name(certificate.subject)


def describe_name(name: x509.Name) -> str:
    """A distinguished name in OpenSSL's one-line form, unprintable characters escaped."""
    parts = (f"/{attribute.rfc4514_attribute_name}={attribute.value!s}" for attribute in name)
    text = "".join(parts) or "/"
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


def expiry_date(certificate: x509.Certificate) -> str:
    """The last day of a certificate's validity, as YYYY-MM-DD (UTC)."""
    return certificate.not_valid_after_utc.date().isoformat()


def _read_trusted(settings: TlsSettings) -> tuple[x509.Certificate, ...]:
    if settings.ca is None:
        if settings.verify:
            raise CredentialsError(
                "no CA is configured, so no peer could be verified: give --ca, or tca in [sst] "
                "(a file of trusted certificates, or a directory of them)"
            )
        return ()
    if settings.ca.is_dir():
        return _read_directory(settings.ca)
    return tuple(_read_certificates(settings.ca, _CA))


def _read_directory(directory: Path) -> tuple[x509.Certificate, ...]:
    """All certificates of a CA directory; c_rehash's links to the same file count once."""
    try:
        files = sorted({os.path.realpath(path) for path in directory.iterdir() if not path.name.startswith(".")})
    except OSError as error:
        raise CredentialsError(f"the CA directory {directory} can't be read: {error.strerror}") from error
    found = [
        certificate
        for path in map(Path, files)
        if path.is_file() and b"-----BEGIN CERTIFICATE-----" in _read_file(path, _CA)
        for certificate in _read_certificates(path, _CA)
    ]
    if not found:
        raise CredentialsError(f"the CA directory {directory} holds no PEM certificate")
    return tuple(found)


def _read_file(path: Path, what: str) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise CredentialsError(f"the {what} {path} is larger than {_LARGEST_FILE} bytes; expected a PEM file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFile(f"the {what} {path} does not exist; expected a PEM file") from error
    except OSError as error:
        raise CredentialsError(
            f"the {what} {path} can't be read: {error.strerror}; "
            "expected a PEM file that the user who runs the tunnel may read"
        ) from error


def _read_certificates(path: Path, what: str) -> list[x509.Certificate]:
    data = _read_file(path, what)
    if b"-----BEGIN " not in data:
        raise CredentialsError(f"the {what} {path} holds no PEM text; expected a -----BEGIN CERTIFICATE----- block")
    try:
        return x509.load_pem_x509_certificates(data)
    except MALFORMED as error:
        raise CredentialsError(f"the {what} {path} holds no certificate that can be read ({_first_line(error)})") from error


def _read_key(path: Path, *, combined: bool) -> PrivateKey:
    data = _read_file(path, _CERTIFICATE if combined else "key file")
    start = data.find(b"PRIVATE KEY-----")
    if start < 0:
        advice = "append it, or name the key's file (--key, tkey)" if combined else "expected a PEM private key"
        raise CredentialsError(f"{path} holds no private key; {advice}")
    pem = data[data.rfind(b"-----BEGIN ", 0, start) :]
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise CredentialsError(
            f"the private key in {path} is encrypted, and nobody is there to type its passphrase; "
            "store it without one, readable by the server's user alone"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialsError(f"the private key in {path} can't be read ({_first_line(error)})") from error
    if not isinstance(key, PrivateKey):
        raise CredentialsError(f"the private key in {path} is of a kind that TLS can't use; make an RSA or ECDSA key")
    return key


def _key_warnings(path: Path) -> tuple[str, ...]:
    """A key that others can read still works (Kubernetes mounts them so), but never silently."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & stat.S_IRWXO:
        return ()
    return (f"the private key in {path} is open to every user of this host (mode {mode:04o}); run: chmod o-rwx {path}",)


def _check_dates(certificate: x509.Certificate, path: Path, now: datetime.datetime) -> None:
    name = describe_subject(certificate)
    if now > certificate.not_valid_after_utc:
        raise CredentialsError(f"the certificate {name} in {path} expired on {expiry_date(certificate)}; renew it")
    if now < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc.isoformat(timespec="seconds")
        raise CredentialsError(f"the certificate {name} in {path} is not valid before {begin}; is the clock right?")


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
