"""One end of a TLS connection without any I/O: bytes in, bytes out, and what went wrong in words.

Whoever owns it moves the bytes (pytunnel.tls.stream). Its calls are synchronous, so tasks can't interleave in them.
"""

from __future__ import annotations

from OpenSSL import SSL

from pytunnel.tls import records
from pytunnel.tls.context import Side
from pytunnel.tls.errors import HandshakeError, PeerRejected, TlsError, TruncatedStream
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.reasons import failed, incompatible, openssl_reason, stream_error
from pytunnel.tls.session import Session, no_certificate, session_of
from pytunnel.tls.verification import Verification

Bytes = bytes | bytearray | memoryview


class Engine:
    """OpenSSL's state of one connection; `place` names the peer in errors.

    `drained` tells that it wants to be fed before it can decrypt more, `peer_closed` that the peer's close_notify has
    come, `broken` that nothing more can be said, `failure` why nothing more can be decrypted.
    """

    def __init__(self, context: SSL.Context, side: Side, place: str, expected: ExpectedPeer, server_name: str) -> None:
        self.place = place
        self.drained = False
        self.peer_closed = False
        self.broken = False
        self.failure: TlsError | None = None
        self._tls = SSL.Connection(context)
        records.read_one_message_at_a_time(self._tls)
        self._verification = Verification(place, expected)
        self._tls.set_app_data(self._verification)
        self._ciphertext: Bytes = b""  # where OpenSSL reads: it must not go away before all is read
        self._heard = False
        if side is Side.SERVER:
            self._tls.set_accept_state()
        else:
            self._tls.set_connect_state()
            if server_name:
                self._tls.set_tlsext_host_name(server_name.encode("ascii"))

    def shake_hands(self) -> Session | None:
        """Go on with the handshake: what was agreed on, or None while the peer has to say more.

        Raises TlsError, after which there is an alert to be said to the peer.
        """
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError as error:
            raise self.break_off("closed the connection") from error
        except SSL.Error as error:
            self.broken = True
            raise self._handshake_error(error) from error
        return session_of(self._tls, self.place)

    def feed(self, ciphertext: Bytes) -> None:
        """Let OpenSSL read what came from the transport, all of which it had read before.

        Nothing is the transport's end. Raises TruncatedStream for it: somebody may have cut bytes off.
        """
        if not ciphertext:
            self.broken = True
            raise TruncatedStream(
                f"{self.place} ended the connection without TLS's close_notify, so bytes may be missing"
            )
        self._ciphertext, self.drained = ciphertext, False
        records.feed(self._tls, ciphertext)

    def decrypt(self, buffer: records.Buffer, limit: int) -> int:
        """Decrypt all complete records that OpenSSL was fed, up to `limit` bytes, into `buffer`; how many there are.

        What came before a broken record is given out first; OpenSSL tells the reason only once, so it is kept as
        `failure`. Raises it where no byte came before.
        """
        size, ended = records.decrypt(self._tls, buffer, limit)
        self._heard = self._heard or size > 0
        if ended is not None:
            records.feed(self._tls, b"")  # what follows the end is for nobody
        if size < limit:
            self._ciphertext, self.drained = b"", True
        if isinstance(ended, SSL.ZeroReturnError):
            self.peer_closed = True
        elif ended is not None:
            self.failure = self._stream_error(ended)
            if not size:
                raise self.failure from ended
        return size

    def encrypt(self, plain: records.Buffer, size: int, buffer: records.Buffer) -> int:
        """Encrypt `size` bytes, up to TURN of them, from where they lie into `buffer`; the size of their records.

        Raises TlsError.
        """
        try:
            return records.encrypt(self._tls, plain, size, buffer)
        except SSL.Error as error:
            raise self._stream_error(error) from error

    def close(self) -> None:
        """Say that nothing more comes (close_notify). Raises TlsError."""
        try:
            self._tls.shutdown()
        except SSL.Error as error:
            raise self._stream_error(error) from error

    def unsaid(self) -> int:
        """How many bytes there are to be sent to the peer."""
        return records.unsaid(self._tls)

    def collect(self, buffer: records.Buffer) -> int:
        """Up to ROOM bytes of what is to be sent, into `buffer`; how many there are."""
        return records.collect(self._tls, buffer)

    def break_off(self, how: str) -> HandshakeError:
        """The error for a transport that ended during the handshake; `how` are words, as "closed the connection"."""
        self.broken = True
        return HandshakeError(f"{self.place} {how} during the TLS handshake; its log says why")

    def _handshake_error(self, error: SSL.Error) -> TlsError:
        if self._verification.refusal is not None:
            return PeerRejected(self._verification.refusal)
        reason = openssl_reason(error)
        if "did not return a certificate" in reason:
            return PeerRejected(no_certificate(self.place))
        return incompatible(self.place, reason, heard=False) or HandshakeError(failed(self.place, reason))

    def _stream_error(self, error: SSL.Error) -> TlsError:
        self.broken = True
        return stream_error(self.place, openssl_reason(error), heard=self._heard)
