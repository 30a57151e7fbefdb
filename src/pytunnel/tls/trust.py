"""Does a chain lead from a certificate to one that we trust? OpenSSL's answer, with and without a handshake.

A handshake asks more than the chain: what the certificates may be used for ("purpose") and how strong they are
("security level"). pyOpenSSL can ask OpenSSL for these in a handshake only, so `find_refusal`, which needs no peer,
asks them by OpenSSL's rules; a test holds its answers against those of real handshakes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from pytunnel.tls.errors import CredentialsError

_OK = 0
# OpenSSL's numbers, X509_V_ERR_* of openssl/x509_vfy.h.
EXPIRED = 10
_INVALID_PURPOSE = 26
_OWN_KEY_TOO_SMALL = 66
_CA_KEY_TOO_SMALL = 67
_DIGEST_TOO_WEAK = 68
_UNSUPPORTED_ALGORITHM = 76

# Security level 2, OpenSSL's default since 3.2: as hard to break as 112 bits.
_LEAST_RSA = 2048
_LEAST_CURVE = 224
_CURVES = {"secp256r1", "secp384r1", "secp521r1"}  # those that TLS 1.3 signs with (RFC 8446, 4.2.3)
_LEAST_DIGEST = 28  # bytes: SHA-224

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_BOTH_ROLES = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}

# Netscape's extension from before there was an extended key usage: old recipes still set it, and OpenSSL heeds it.
_NETSCAPE_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")
_NETSCAPE_BOTH_ROLES = 0x80 | 0x40
_NETSCAPE_TLS_CA, _NETSCAPE_ANY_CA = 0x04, 0x07


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why OpenSSL would end a handshake: `error` is its number for it, `depth` 0 the peer's own certificate."""

    certificate: x509.Certificate
    error: int
    depth: int


def trust_only(
    store: crypto.X509Store,
    trusted: Iterable[x509.Certificate],
    revoked: Iterable[x509.CertificateRevocationList] = (),
) -> None:
    """Make `trusted` the certificates that a chain may end in; with CRLs, none of `revoked` is accepted.

    With any CRL at all, a peer's issuer must have one: else a list that was forgotten would revoke nobody.
    Raises CredentialsError for a certificate or a CRL that OpenSSL, which is stricter than cryptography, can't read.
    """
    for certificate in trusted:
        try:
            store.add_cert(crypto.X509.from_cryptography(certificate))
        except crypto.Error as error:
            raise CredentialsError(
                f"OpenSSL can't read a certificate of the CA file, the one with the serial number "
                f"{certificate.serial_number:X}; take it out, or make it anew"
            ) from error
    # A node's own certificate in the bundle is a trust anchor although it is no CA and has an issuer elsewhere.
    flags = crypto.X509StoreFlags.PARTIAL_CHAIN
    for revocation_list in revoked:
        try:
            store.add_crl(revocation_list)
        except crypto.Error as error:
            raise CredentialsError("OpenSSL can't read one of the revocation lists (CRLs); make it anew") from error
        flags |= crypto.X509StoreFlags.CRL_CHECK
    store.set_flags(flags)


def find_refusal(
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    trusted: Iterable[x509.Certificate],
    revoked: Iterable[x509.CertificateRevocationList] = (),
) -> Refusal | None:
    """The first reason why an end that trusts `trusted`, less `revoked`, would refuse a peer; None if it wouldn't.

    The peer may be the server or the client: its `certificate` must be good for both. `chain` is what it shows behind
    that. Raises one of pytunnel.tls.identity.MALFORMED where a certificate breaks X.509's rules,
    CredentialsError where one of `trusted` does.
    """
    store = crypto.X509Store()
    trust_only(store, trusted, revoked)
    try:
        return _judge_chain(store, certificate, chain)
    except crypto.Error as error:
        raise ValueError("OpenSSL can't read it") from error


def _judge_chain(
    store: crypto.X509Store, certificate: x509.Certificate, chain: Sequence[x509.Certificate]
) -> Refusal | None:
    context = crypto.X509StoreContext(
        store, crypto.X509.from_cryptography(certificate), [crypto.X509.from_cryptography(item) for item in chain]
    )
    try:
        verified = [item.to_cryptography() for item in context.get_verified_chain()]
    except crypto.X509StoreContextError as refused:
        error, depth, _ = refused.errors
        return Refusal(refused.certificate.to_cryptography(), error, depth)
    for depth, item in enumerate(verified):
        error = _purpose_error(item, depth) or _key_error(item, depth) or _digest_error(item, depth, verified)
        if error != _OK:
            return Refusal(item, error, depth)
    return None


def _purpose_error(certificate: x509.Certificate, depth: int) -> int:
    """An extended key usage counts along the whole chain; what a CA's key may do, the chain's check has asked."""
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    if extended is not None and not set(extended) >= _BOTH_ROLES:
        return _INVALID_PURPOSE
    usage = _extension(certificate, x509.KeyUsage)
    if depth == 0 and usage is not None and not (usage.digital_signature or usage.key_agreement):
        return _INVALID_PURPOSE
    return _INVALID_PURPOSE if _netscape_type_forbids(certificate, depth) else _OK


def _netscape_type_forbids(certificate: x509.Certificate, depth: int) -> bool:
    bits = _netscape_type(certificate)
    if bits is None:
        return False
    if depth == 0:
        return bits & _NETSCAPE_BOTH_ROLES != _NETSCAPE_BOTH_ROLES
    # Of a CA it is asked only where nothing else says that it is one.
    silent = not (_extension(certificate, x509.BasicConstraints) or _extension(certificate, x509.KeyUsage))
    return silent and bits & _NETSCAPE_ANY_CA != 0 and not bits & _NETSCAPE_TLS_CA


def _netscape_type(certificate: x509.Certificate) -> int | None:
    """The bits of the extension, all in the first octet of a bit string; None where there is no such extension."""
    try:
        value = certificate.extensions.get_extension_for_oid(_NETSCAPE_TYPE).value
    except x509.ExtensionNotFound:
        return None
    bits = value.public_bytes()[3:]  # behind the tag, the length and the number of unused bits
    return bits[0] if bits else 0


def _key_error(certificate: x509.Certificate, depth: int) -> int:
    key = certificate.public_key()
    too_small = _CA_KEY_TOO_SMALL if depth else _OWN_KEY_TOO_SMALL
    if isinstance(key, rsa.RSAPublicKey):
        return too_small if key.key_size < _LEAST_RSA else _OK
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.key_size < _LEAST_CURVE:
            return too_small
        if depth == 0 and key.curve.name not in _CURVES:
            return _UNSUPPORTED_ALGORITHM
    return _OK


def _digest_error(certificate: x509.Certificate, depth: int, chain: Sequence[x509.Certificate]) -> int:
    if depth == len(chain) - 1:  # the trust anchor is trusted whoever has signed it
        return _OK
    digest = certificate.signature_hash_algorithm
    return _DIGEST_TOO_WEAK if digest is not None and digest.digest_size < _LEAST_DIGEST else _OK


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
