"""Collect certificates into the one file that all nodes trust."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from pytunnel.certs.errors import CertsError
from pytunnel.certs.making import certificate_pem
from pytunnel.tls.credentials import read_certificates


def collect(files: Iterable[Path], without: Iterable[Path] = ()) -> list[x509.Certificate]:
    """Every certificate of `files` once, in their order, but none of those in `without`; keys are left behind.

    Raises CredentialsError for a file that can't be used, CertsError where nothing is left.
    """
    dropped = [certificate for file in without for certificate in read_certificates(file)]
    found = [certificate for file in files for certificate in read_certificates(file)]
    kept = [certificate for certificate in dict.fromkeys(found) if certificate not in dropped]
    if not kept:
        raise CertsError("no certificate would be left in the bundle, and nobody would be trusted")
    return kept


def bundle_pem(certificates: Iterable[x509.Certificate]) -> str:
    """The certificates as one text."""
    return "".join(map(certificate_pem, certificates))
