"""Read a CA from its files, and see that it can issue certificates."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509

from pytunnel.certs.errors import CertsError
from pytunnel.certs.making import Identity
from pytunnel.tls.credentials import check_dates, check_key, describe_subject, read_certificates, read_key
from pytunnel.tls.identity import MALFORMED


def read_authority(certificate: Path, key: Path) -> Identity:
    """The CA of a certificate file and a key file.

    Raises CredentialsError for a file that can't be used, CertsError for a certificate that is no CA's.
    """
    own = read_ca(certificate)
    own_key = read_key(key, combined=False)
    check_key(own_key, key, own, certificate)
    check_dates(own, certificate, datetime.datetime.now(datetime.UTC))
    if not is_authority(own):
        raise CertsError(
            f"{describe_subject(own)} in {certificate} is not allowed to issue certificates; "
            "make a CA with: pytunnel certs ca"
        )
    return Identity(own, own_key)


def read_ca(path: Path) -> x509.Certificate:
    """The first certificate of a CA file; raises CredentialsError."""
    return read_certificates(path, "CA file")[0]


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether the certificate says that it may issue others."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, *MALFORMED):
        return False
    return constraints.ca
