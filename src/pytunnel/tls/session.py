"""What a finished handshake agreed on, and with whom."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from cryptography import x509
from OpenSSL import SSL

from pytunnel.tls.errors import HandshakeError, PeerRejected
from pytunnel.tls.identity import MALFORMED, presented_names

_PEERS = 64  # whose names are remembered: the same few connect again and again, and a certificate is slow to read


@dataclass(frozen=True, slots=True)
class Session:
    """What was agreed on, for logs; `peer` is None where the peer presented nothing.

    `seconds` is how long the handshake took, where that was measured.
    """

    version: str
    cipher: str
    peer: x509.Certificate | None
    seconds: float = 0.0

    @property
    def peer_name(self) -> str:
        """The names that the peer presented."""
        return _names_of(self.peer) if self.peer is not None else "no certificate"


@functools.lru_cache(maxsize=_PEERS)
def _names_of(peer: x509.Certificate) -> str:
    return presented_names(peer)


def session_of(connection: SSL.Connection, place: str) -> Session:
    """The session of a connection whose handshake is done; `place` names the peer in errors.

    Raises PeerRejected where the peer had to present a certificate and did not, HandshakeError for one that can't be
    read.
    """
    try:
        certificate = connection.get_peer_certificate(as_cryptography=True)
    except MALFORMED as error:
        raise HandshakeError(f"{place} presented a certificate that can't be read ({error})") from error
    if certificate is None and connection.get_context().get_verify_mode() & SSL.VERIFY_PEER:
        raise PeerRejected(no_certificate(place))
    version = connection.get_protocol_version_name()
    return Session(version, connection.get_cipher_name() or "unknown cipher", certificate)


def no_certificate(place: str) -> str:
    """The words for a peer that presented none."""
    return f"{place} presented no certificate; both sides must present one"
