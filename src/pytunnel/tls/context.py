"""Make OpenSSL contexts from settings and credentials: what is negotiated, who is verified.

TLS 1.2 or later, no compression, no renegotiation, no resumption (TLS 1.3 sends two tickets all the same, which nobody
takes: pyOpenSSL can't switch them off). Both sides present a certificate. A context is
made once for each end and serves all its connections.
"""

from __future__ import annotations

import enum

from OpenSSL import SSL, crypto

from pytunnel.tls.credentials import Credentials
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.reasons import openssl_reason
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.trust import trust_only
from pytunnel.tls.verification import demand_peer_certificate

_MODE_PARTIAL_WRITE = 0x1  # SSL_MODE_ENABLE_PARTIAL_WRITE of openssl/ssl.h, which pyOpenSSL sets but doesn't export
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

# Forward secrecy and authenticated encryption; AES-128 first, because the donor's processor serves queries meanwhile
# and 128 bits are as far out of reach as 256.
_SUITES_TLS13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
_CIPHERS_TLS12 = "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM+AES128:DHE+AESGCM:DHE+CHACHA20:!PSK:!SRP"
# Whatever list is given: with the first kind a peer need not show a certificate, with the second nothing is encrypted.
_NEVER = ":!aNULL:!eNULL"


class Side(enum.Enum):
    """Which end of the handshake we are."""

    SERVER = "server"
    CLIENT = "client"


def make_context(settings: TlsSettings, credentials: Credentials) -> SSL.Context:
    """A context for one end of a tunnel.

    Raises CredentialsError when OpenSSL refuses the certificate, the ciphers or the parameters.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # One SSL_write then takes a whole turn's bytes and makes all their records.
    context.clear_mode(_MODE_PARTIAL_WRITE)
    _set_versions(context, settings)
    _set_ciphers(context, settings)
    _set_certificate(context, settings, credentials)
    if settings.dh_parameters is not None:
        _set_dh_parameters(context, settings)
    _set_trust(context, credentials)
    if settings.verify:
        demand_peer_certificate(context)
    return context


def _set_trust(context: SSL.Context, credentials: Credentials) -> None:
    store = context.get_cert_store()
    if store is None:
        raise CredentialsError("OpenSSL gave the context no certificate store")
    pinned = () if credentials.pinned is None else (credentials.pinned,)
    trust_only(store, (*credentials.trusted, *pinned), credentials.revoked)


def _set_versions(context: SSL.Context, settings: TlsSettings) -> None:
    for name, version in (("minimum", settings.minimum), ("maximum", settings.maximum)):
        if version is not None and version not in _VERSIONS:
            raise CredentialsError(f"the {name} TLS version is {version!r}; expected 1.2 or 1.3")
    context.set_min_proto_version(_VERSIONS[settings.minimum])
    if settings.maximum is not None:
        if settings.maximum < settings.minimum:
            raise CredentialsError(
                f"the maximum TLS version {settings.maximum} is below the minimum {settings.minimum}"
            )
        context.set_max_proto_version(_VERSIONS[settings.maximum])


def _set_ciphers(context: SSL.Context, settings: TlsSettings) -> None:
    """Apply the cipher list; names that begin with TLS_ are suites of TLS 1.3, which OpenSSL keeps apart."""
    words = settings.ciphers.split(":") if settings.ciphers else []
    suites = [word for word in words if word.startswith("TLS_")]
    ciphers = [word for word in words if not word.startswith("TLS_")]
    try:
        context.set_cipher_list(((":".join(ciphers) or _CIPHERS_TLS12) + _NEVER).encode())
        context.set_tls13_ciphersuites((":".join(suites) or _SUITES_TLS13).encode())
    except (SSL.Error, ValueError) as error:
        raise CredentialsError(
            f"OpenSSL knows no cipher in {settings.ciphers!r} that encrypts and authenticates; "
            "see `openssl ciphers` for the names"
        ) from error


def _set_certificate(context: SSL.Context, settings: TlsSettings, credentials: Credentials) -> None:
    try:
        context.use_certificate(credentials.certificate)
        for certificate in credentials.chain:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(credentials.key)
    except (SSL.Error, crypto.Error, TypeError) as error:
        raise CredentialsError(
            f"OpenSSL refuses the certificate in {settings.certificate} ({openssl_reason(error)}); "
            "a key shorter than 2048 bits (RSA) or a SHA-1 signature is too weak"
        ) from error


def _set_dh_parameters(context: SSL.Context, settings: TlsSettings) -> None:
    try:
        context.load_tmp_dh(str(settings.dh_parameters))
    except SSL.Error as error:
        raise CredentialsError(
            f"{settings.dh_parameters} holds no DH parameters that can be read ({openssl_reason(error)})"
        ) from error
