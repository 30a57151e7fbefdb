"""Read the certificate, the key and the trusted certificates of one end, and say what is wrong with them.

Everything is checked here, once, before anything listens or dials: that files can be read, that the key is the
certificate's, that dates hold, that the CA is there. The result is a value that contexts are made of.
"""

from __future__ import annotations

import datetime
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import PublicKeyAlgorithmOID

from pytunnel.tls.errors import CredentialsError, MissingFile
from pytunnel.tls.identity import MALFORMED
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.trust import EXPIRED, find_refusal

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

_CERTIFICATE, _CA, _CRL = "certificate file", "CA file", "CRL file"  # as errors call them
_CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_KEY_MARK = b"PRIVATE KEY-----"  # at the end of a first line, whatever the kind of key
_LARGEST_FILE = 16 * 1024 * 1024  # a bundle of thousands of certificates stays far below


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one end shows and whom it trusts, parsed.

    `chain` are the certificates behind our own in its file, `trusted` the CA's; neither is sorted.
    `revoked` are the CRLs, those beside the CA's certificates included, `pinned` the one certificate that the peer must
    present, if only one may.
    `warnings` are sentences that the log should hold although the files can be used.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    trusted: tuple[x509.Certificate, ...]
    warnings: tuple[str, ...] = ()
    revoked: tuple[x509.CertificateRevocationList, ...] = ()
    pinned: x509.Certificate | None = None


def load_credentials(settings: TlsSettings, *, now: datetime.datetime | None = None) -> Credentials:
    """Read and check all files that `settings` names.

    Raises CredentialsError that names the file, what is wrong with it and what to do.
    """
    if settings.certificate is None:
        raise CredentialsError(
            "no certificate is configured; both sides of a tunnel present one: give --cert, or tcert in [sst]"
        )
    moment = now or datetime.datetime.now(datetime.UTC)
    own, *chain = read_certificates(settings.certificate)
    key_file = settings.key or settings.certificate
    key = read_key(key_file, combined=settings.key is None)
    check_dates(own, settings.certificate, moment)
    check_key(key, key_file, own, settings.certificate)
    trusted = _read_trusted(settings)
    return Credentials(
        own,
        tuple(chain),
        key,
        trusted=trusted,
        warnings=(*key_warnings(key_file), *_chain_warnings(own, chain, trusted, settings.certificate, moment)),
        revoked=(*read_revoked(settings.revoked), *_revoked_beside_trusted(settings)),
        pinned=_read_pinned(settings),
    )


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


def days_left(certificate: x509.Certificate, now: datetime.datetime) -> int:
    """Whole days until the certificate expires; negative afterwards."""
    return (certificate.not_valid_after_utc - now).days


def _ca_places(settings: TlsSettings) -> list[Path]:
    return [place for place in (settings.ca, settings.ca_directory) if place is not None]


def _read_trusted(settings: TlsSettings) -> tuple[x509.Certificate, ...]:
    places = _ca_places(settings)
    if settings.verify and not places and settings.peer_certificate is None:
        raise CredentialsError(
            "no CA is configured, so no peer could be verified: give --ca, or tca in [sst] "
            "(a file of trusted certificates, or a directory of them)"
        )
    found: list[x509.Certificate] = []
    for place in places:
        found += read_trusted(place)
    return tuple(found)


def read_trusted(place: Path) -> list[x509.Certificate]:
    """The certificates of a CA file, or of all files in a CA directory; raises CredentialsError."""
    return _read_directory(place) if _is_directory(place) else read_certificates(place, _CA)


def _revoked_beside_trusted(settings: TlsSettings) -> Iterator[x509.CertificateRevocationList]:
    for place in _ca_places(settings):
        yield from read_lists(place, _CA)


def _read_pinned(settings: TlsSettings) -> x509.Certificate | None:
    if settings.peer_certificate is None:
        return None
    return read_certificates(settings.peer_certificate, "peer's certificate file")[0]


def read_revoked(places: Iterable[Path]) -> tuple[x509.CertificateRevocationList, ...]:
    """The CRLs of files and directories that are there for them; raises CredentialsError.

    A place without any is an error, because then nobody could be revoked.
    """
    found: list[x509.CertificateRevocationList] = []
    for place in places:
        lists = read_lists(place, _CRL)
        if not lists:
            raise CredentialsError(f"the {_CRL} {place} holds no PEM revocation list (-----BEGIN X509 CRL-----)")
        found += lists
    return tuple(found)


def read_lists(place: Path, what: str = _CA) -> list[x509.CertificateRevocationList]:
    """The CRLs in a file, or in all files of a directory, as OpenSSL takes them from a CA file; there may be none.

    Raises CredentialsError, in which the place is called `what`.
    """
    blocks = [block for path in _files_of(place, what) for block in _CRL_BLOCK.findall(_read_file(path, what))]
    try:
        return [x509.load_pem_x509_crl(block) for block in blocks]
    except MALFORMED as error:
        raise CredentialsError(
            f"a revocation list (CRL) in {place} can't be understood ({_first_line(error)})"
        ) from error


def _files_of(place: Path, what: str) -> list[Path]:
    """The place itself, or the files in it if it is a directory; c_rehash's links to the same file count once."""
    if not _is_directory(place):
        return [place]
    try:
        files = {os.path.realpath(path) for path in place.iterdir() if not path.name.startswith(".")}
        return [path for path in map(Path, sorted(files)) if path.is_file()]
    except OSError as error:
        raise CredentialsError(f"the {what} {place} can't be read: {error.strerror}") from error


def _is_directory(place: Path) -> bool:
    """False also for what can't be looked at: whoever opens it says why."""
    return os.path.isdir(place)  # noqa: PTH112 - Path.is_dir raises PermissionError, and OSError for too long a name


def _read_directory(directory: Path) -> list[x509.Certificate]:
    files = _files_of(directory, _CA)
    found = [
        certificate
        for path in files
        if b"-----BEGIN CERTIFICATE-----" in _read_file(path, _CA)
        for certificate in read_certificates(path, _CA)
    ]
    if not found:
        raise CredentialsError(f"the CA directory {directory} holds no PEM certificate")
    return found


def _read_file(path: Path, what: str) -> bytes:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise CredentialsError(f"the {what} {path} is no regular file; expected a PEM file")
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise _unreadable(path, what, error) from error
    if len(data) > _LARGEST_FILE:
        raise CredentialsError(f"the {what} {path} is larger than {_LARGEST_FILE} bytes; expected a PEM file")
    return data


def _unreadable(path: Path, what: str, error: OSError) -> CredentialsError:
    if isinstance(error, FileNotFoundError):
        return MissingFile(f"the {what} {path} does not exist; expected a PEM file")
    expected = "expected a PEM file that the user who runs the tunnel may read"
    return CredentialsError(f"the {what} {path} can't be read: {error.strerror}; {expected}")


def _without_waiting(path: str, flags: int) -> int:
    """Open, but don't wait for somebody who writes to a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_certificates(path: Path, what: str = _CERTIFICATE) -> list[x509.Certificate]:
    """All certificates of a PEM file, at least one; raises CredentialsError, in which the file is called `what`."""
    data = _read_file(path, what)
    if b"-----BEGIN " not in data:
        raise CredentialsError(f"the {what} {path} holds no PEM text; expected a -----BEGIN CERTIFICATE----- block")
    if b"CERTIFICATE-----" not in data:
        raise CredentialsError(f"the {what} {path} holds no certificate; is it the file of a key?")
    try:
        return x509.load_pem_x509_certificates(data)
    except MALFORMED as error:
        reason = _first_line(error)
        raise CredentialsError(f"the {what} {path} holds no certificate that can be read ({reason})") from error


def holds_key(path: Path) -> bool:
    """Whether the file holds a private key, perhaps besides certificates; raises CredentialsError."""
    return _KEY_MARK in _read_file(path, _CERTIFICATE)


def read_key(path: Path, *, combined: bool) -> PrivateKey:
    """The private key of a PEM file, which may hold the certificate too (`combined`); raises CredentialsError."""
    data = _read_file(path, _CERTIFICATE if combined else "key file")
    start = data.find(_KEY_MARK)
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


def key_warnings(path: Path) -> tuple[str, ...]:
    """A key that others can read still works (Kubernetes mounts them so), but never silently.

    Raises CredentialsError.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise _unreadable(path, "key file", error) from error
    if not mode & stat.S_IRWXO:
        return ()
    return (f"the private key in {path} is open to every user of this host (mode {mode:04o}); run: chmod o-rwx {path}",)


def check_key(key: PrivateKey, key_file: Path, certificate: x509.Certificate, path: Path) -> None:
    """Raise CredentialsError unless the key of `key_file` is the one of the certificate of `path`, and of use to us."""
    with _understood(path):
        name, public = describe_subject(certificate), _public_bytes(certificate.public_key())
    if _public_bytes(key.public_key()) != public:
        raise CredentialsError(
            f"the key in {key_file} does not belong to the certificate "
            f"{name} in {path}; give the key that this certificate was made with"
        )
    if has_pss_key(certificate):
        raise CredentialsError(
            f"the key of the certificate {name} in {path} is an RSA-PSS key, which can't be used here; "
            "make an ordinary RSA key, or one on the curve P-256"
        )


def has_pss_key(certificate: x509.Certificate) -> bool:
    """Whether its key is for RSA-PSS alone: cryptography hands OpenSSL an ordinary RSA key, which then doesn't fit.

    A peer with such a key is none of our concern: OpenSSL verifies it.
    """
    return certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS


def check_dates(certificate: x509.Certificate, path: Path, now: datetime.datetime) -> None:
    """Raise CredentialsError unless the certificate of `path` is valid at the moment `now`."""
    with _understood(path):
        name = describe_subject(certificate)
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        raise CredentialsError(f"the certificate {name} in {path} expired on {expiry_date(certificate)}; renew it")
    if now < begins:
        begin = begins.isoformat(timespec="seconds")
        raise CredentialsError(f"the certificate {name} in {path} is not valid before {begin}; is the clock right?")


def _chain_warnings(
    own: x509.Certificate,
    chain: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    path: Path,
    now: datetime.datetime,
) -> tuple[str, ...]:
    """A certificate behind our own that has ended does no harm where peers have a newer one.

    Raises CredentialsError where peers with our CA file refuse the chain for it.
    """
    with _understood(path):
        ended = [item for item in chain if now > item.not_valid_after_utc]
        refusal = find_refusal(own, chain, trusted) if ended else None
    if refusal is not None and refusal.error == EXPIRED and refusal.certificate in ended:
        check_dates(refusal.certificate, path, now)
    return tuple(f"in {path}, {chain_end(item, now)}" for item in ended)


def chain_end(certificate: x509.Certificate, now: datetime.datetime) -> str:
    """When a certificate ends, or has ended, that stands behind the node's own in its file."""
    name, date, days = describe_subject(certificate), expiry_date(certificate), days_left(certificate, now)
    if days < 0:
        return f"{name} behind the node's own certificate expired on {date}; put the new one there"
    return f"{name} behind the node's own certificate expires in {days} days, on {date}; put the new one there"


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Parts of a certificate are parsed at the first look at them: until then it may break X.509's rules unnoticed."""
    try:
        yield
    except MALFORMED as error:
        raise CredentialsError(
            f"the certificate in {path} breaks the rules of X.509 ({_first_line(error)}); make it anew"
        ) from error


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
