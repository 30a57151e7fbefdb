"""The error of the security layer."""

from __future__ import annotations

from pytunnel.errors import PytunnelError


class TlsError(PytunnelError):
    """Credentials that can't be used, a peer that isn't trusted, or a TLS stream that broke."""

    exit_code = 1


class CredentialsError(TlsError):
    """A certificate, key or CA that can't be used; found before anything listens or dials."""

    exit_code = 22


class MissingFile(CredentialsError):
    """A file that is named in the settings, but isn't there."""

    exit_code = 2


class PeerRejected(TlsError):
    """The other side can't be trusted: its chain or its name was not what was expected."""


class HandshakeError(TlsError):
    """The TLS handshake ended without a connection."""


class Incompatible(HandshakeError):
    """The other side refused our certificate, or speaks no TLS that we do: the next try would end likewise."""


class TruncatedStream(TlsError):
    """The connection ended without TLS's close_notify: bytes may be missing, so this is no end of file."""
