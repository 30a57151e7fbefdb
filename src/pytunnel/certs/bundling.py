"""Collect certificates, and revocation lists, into the one file that all nodes trust."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pytunnel.certs.errors import CertsError
from pytunnel.certs.making import certificate_pem
from pytunnel.tls.credentials import read_certificates, read_lists
from pytunnel.tls.errors import CredentialsError


def collect(files: Iterable[Path], without: Iterable[Path] = ()) -> list[x509.Certificate]:
    """Every certificate of `files` once, in their order, but none of those in `without`; keys are left behind.

    Raises CredentialsError for a file that can't be used, CertsError where nothing is left.
    """
    dropped = [certificate for file in without for certificate in read_certificates(file)]
    found = [certificate for file in files for certificate in _certificates_of(file)]
    kept = [certificate for certificate in dict.fromkeys(found) if certificate not in dropped]
    if not kept:
        raise CertsError("no certificate would be left in the bundle, and nobody would be trusted")
    return kept


def collect_lists(files: Iterable[Path]) -> list[x509.CertificateRevocationList]:
    """The newest revocation list of each issuer. One that were left behind would let revoked nodes in again.

    Raises CredentialsError.
    """
    newest: dict[x509.Name, x509.CertificateRevocationList] = {}
    for item in (item for file in files for item in read_lists(file)):
        known = newest.get(item.issuer)
        if known is None or known.last_update_utc <= item.last_update_utc:
            newest[item.issuer] = item
    return list(newest.values())


def bundle_pem(certificates: Iterable[x509.Certificate], lists: Iterable[x509.CertificateRevocationList] = ()) -> str:
    """The certificates and the lists as one text."""
    return "".join([*map(certificate_pem, certificates), *(item.public_bytes(Encoding.PEM).decode() for item in lists)])


def _certificates_of(file: Path) -> list[x509.Certificate]:
    """Those in a file; it may hold none where it holds a revocation list."""
    try:
        return read_certificates(file)
    except CredentialsError:
        if read_lists(file):
            return []
        raise
