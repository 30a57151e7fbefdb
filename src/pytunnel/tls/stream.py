"""TLS over any trio stream: OpenSSL between two memory BIOs, half-close carried both ways.

OpenSSL never touches a socket here. Ciphertext is read from the transport in large pieces and fed to it; what it
wants to say is collected and sent with one call, so that a turn of the relay costs two system calls and not two for
each record of 16 KiB. The hard parts, and what is done about them:

- *Two tasks*, one that reads and one that writes. OpenSSL's calls are synchronous and trio switches tasks only at
  awaits, so they can't interleave; only sending the collected ciphertext is an await, and a lock keeps its order.
- *Half-close.* `send_eof` sends close_notify and reading goes on, as RFC 8446, 6.1 has it. An end of the transport
  without a close_notify is TruncatedStream: somebody may have cut bytes off.
- *Who is the peer* is decided inside the handshake (pytunnel.tls.verification).
"""

from __future__ import annotations

from dataclasses import dataclass

import trio
from cryptography import x509
from OpenSSL import SSL

from pytunnel.tls import records
from pytunnel.tls.context import Side, openssl_reason
from pytunnel.tls.errors import HandshakeError, Incompatible, PeerRejected, TlsError, TruncatedStream
from pytunnel.tls.identity import MALFORMED, ExpectedPeer, presented_names
from pytunnel.tls.verification import Verification

_RECORD = 16 * 1024  # RFC 8446, 5.1: the most plaintext that one record holds


@dataclass(frozen=True, slots=True)
class Session:
    """What a finished handshake agreed on, for logs; `peer` is None where the peer presented nothing.

    `seconds` is how long it took, where that was measured.
    """

    version: str
    cipher: str
    peer: x509.Certificate | None
    seconds: float = 0.0

    @property
    def peer_name(self) -> str:
        """The names that the peer presented."""
        return presented_names(self.peer) if self.peer is not None else "no certificate"


class TlsStream(trio.abc.HalfCloseableStream):
    """One TLS connection over `transport`, which it owns.

    `place` names the peer in errors; `server_name` is what SNI announces, in ASCII (client only, "" for nothing).
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        context: SSL.Context,
        side: Side,
        *,
        place: str,
        expected: ExpectedPeer,
        server_name: str = "",
    ) -> None:
        self.transport = transport
        self._place = place
        self._tls = SSL.Connection(context)
        self._verification = Verification(place, expected)
        self._tls.set_app_data(self._verification)
        self._ciphertext: bytes | bytearray = b""  # where OpenSSL reads: it must not go away before all is read
        self._shown: tuple[memoryview, records.Buffer] | None = None
        self._send_lock = trio.Lock()
        self._eof_sent = False
        self._peer_closed = False
        self._broken = False
        self._heard = False
        self._failure: TlsError | None = None
        if side is Side.SERVER:
            self._tls.set_accept_state()
        else:
            self._tls.set_connect_state()
            if server_name:
                self._tls.set_tlsext_host_name(server_name.encode("ascii"))

    async def handshake(self) -> Session:
        """Agree on keys and verify the peer; the caller sets the time limit.

        Raises PeerRejected when the peer isn't trusted, HandshakeError for any other end.
        """
        while True:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                await self._flush()
                await self._feed_handshake()
            except SSL.Error as error:
                self._broken = True
                await self._send_alert()
                raise self._handshake_error(error) from error
            else:
                await self._flush()
                return self._session()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Plaintext, at least one byte and about a turn at most, or b"" after the peer's close_notify.

        Raises TruncatedStream when the connection ends without one, TlsError when it is broken otherwise.
        """
        plaintext = bytes(await self.receive_view(max_bytes))
        self._take_back()
        return plaintext

    async def receive_view(self, max_bytes: int | None = None) -> memoryview:
        """The same without a copy: what is shown is valid until the next call, and released by it."""
        self._take_back()
        await trio.lowlevel.checkpoint_if_cancelled()
        limit = records.TURN if max_bytes is None else min(max_bytes, records.TURN)
        while not self._peer_closed:
            if self._failure is not None:
                raise self._failure
            plaintext = self._decrypt(limit)
            if plaintext:
                self._heard = True
                return plaintext
            if not self._peer_closed:
                await self._feed()
        return memoryview(b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send all of `data`; raises TlsError or trio.BrokenResourceError when the connection is gone."""
        if self._eof_sent:
            raise trio.ClosedResourceError("the sending side was closed before")
        if not data:
            await trio.lowlevel.checkpoint()
            return
        await self._begin_sending()
        buffer = records.take_buffer()
        try:
            for start in range(0, len(data), records.TURN):
                piece = data if len(data) <= records.TURN else memoryview(data)[start : start + records.TURN]
                size = records.encrypt(self._tls, piece, buffer)
                await self.transport.send_all(records.view(buffer, size))
        except SSL.Error as error:
            raise self._stream_error(error) from error
        finally:
            records.give_back(buffer)
            self._send_lock.release()

    async def send_eof(self) -> None:
        """Tell the peer with a close_notify that nothing more comes; reading goes on."""
        if self._eof_sent:
            return
        await self._begin_sending()
        try:
            self._eof_sent = True
            self._tls.shutdown()
            await self._send_pending()
        except SSL.Error as error:
            raise self._stream_error(error) from error
        finally:
            self._send_lock.release()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport takes more."""
        await self.transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Say close_notify unless the stream is broken, and close the transport.

        Cancelled, it closes at once and silently, which the peer sees as a truncated stream.
        """
        try:
            if not self._broken:
                await self.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, TlsError):
            self._broken = True  # the peer has gone already: there is nobody to tell
        finally:
            await self.transport.aclose()

    async def _begin_sending(self) -> None:
        """Take the lock that keeps the order of ciphertext; a free one costs no turn of the scheduler."""
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._send_lock.acquire()

    def _decrypt(self, limit: int) -> memoryview:
        """Plaintext of all complete records that OpenSSL was fed, up to `limit` bytes.

        What came before a broken record is given out first; OpenSSL tells the reason only once, so it is kept.
        """
        buffer = records.take_buffer()
        size, ended = records.decrypt(self._tls, buffer, limit)
        if ended is not None:
            records.feed(self._tls, b"")  # what follows the end is for nobody
        if size < limit:
            self._ciphertext = b""
        if isinstance(ended, SSL.ZeroReturnError):
            self._peer_closed = True
        elif ended is not None:
            self._failure = self._stream_error(ended)
            if not size:
                raise self._failure from ended
        plaintext = records.view(buffer, size)
        self._shown = plaintext, buffer
        return plaintext

    def _take_back(self) -> None:
        """Who kept what we showed gets an error from now on, not another connection's plaintext."""
        if self._shown is not None:
            plaintext, buffer = self._shown
            self._shown = None
            plaintext.release()
            records.give_back(buffer)

    async def _feed(self) -> None:
        self._take_back()
        if unsaid := records.unsaid(self._tls):
            await self._send_answer(unsaid)
        self._ciphertext = await self.transport.receive_some(records.ROOM)
        if not self._ciphertext:
            self._broken = True
            raise TruncatedStream(
                f"{self._place} ended the connection without TLS's close_notify, so bytes may be missing"
            )
        records.feed(self._tls, self._ciphertext)

    async def _send_answer(self, size: int) -> None:
        """Send what OpenSSL answers to the peer's own messages (to a KeyUpdate; that it refuses to renegotiate).

        Who is sending already takes it along: a reader that waited for a writer could wait for ever. Raises TlsError
        where a peer that takes nothing demands ever more.
        """
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            if size > records.MOST_UNSAID:
                self._broken = True
                raise TlsError(_failed(self._place, "it demands answers, and does not take them")) from None
            return
        try:
            await self._send_pending()
        except trio.BrokenResourceError:
            self._broken = True  # what the peer has said before it went is still to be read
        finally:
            self._send_lock.release()

    async def _feed_handshake(self) -> None:
        try:
            self._ciphertext = await self.transport.receive_some(_RECORD)
        except trio.BrokenResourceError as error:
            self._broken = True
            raise self._broken_off() from error
        if not self._ciphertext:
            self._broken = True
            raise HandshakeError(f"{self._place} closed the connection during the TLS handshake; its log says why")
        records.feed(self._tls, self._ciphertext)

    async def _flush(self) -> None:
        await self._begin_sending()
        try:
            await self._send_pending()
        except trio.BrokenResourceError as error:
            self._broken = True
            raise self._broken_off() from error
        finally:
            self._send_lock.release()

    def _broken_off(self) -> HandshakeError:
        return HandshakeError(f"{self._place} broke the connection off during the TLS handshake; its log says why")

    async def _send_alert(self) -> None:
        """Let the peer know why; it may be gone, and the failure that is reported is the first one."""
        try:
            await self._send_pending()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._broken = True

    async def _send_pending(self) -> None:
        with records.borrowed_buffer() as buffer:
            while size := records.collect(self._tls, buffer):
                await self.transport.send_all(records.view(buffer, size))

    def _session(self) -> Session:
        try:
            certificate = self._tls.get_peer_certificate(as_cryptography=True)
        except MALFORMED as error:
            raise HandshakeError(f"{self._place} presented a certificate that can't be read ({error})") from error
        if certificate is None and self._tls.get_context().get_verify_mode() & SSL.VERIFY_PEER:
            raise PeerRejected(self._no_certificate())
        version = self._tls.get_protocol_version_name()
        return Session(version, self._tls.get_cipher_name() or "unknown cipher", certificate)

    def _handshake_error(self, error: SSL.Error) -> TlsError:
        if self._verification.refusal is not None:
            return PeerRejected(self._verification.refusal)
        reason = openssl_reason(error)
        if "did not return a certificate" in reason:
            return PeerRejected(self._no_certificate())
        return _incompatible(self._place, reason, heard=False) or HandshakeError(_failed(self._place, reason))

    def _no_certificate(self) -> str:
        return f"{self._place} presented no certificate; both sides must present one"

    def _stream_error(self, error: SSL.Error) -> TlsError:
        self._broken = True
        reason = openssl_reason(error)
        return _incompatible(self._place, reason, heard=self._heard) or TlsError(_failed(self._place, reason))


def _incompatible(place: str, reason: str, *, heard: bool) -> Incompatible | None:
    """The error where OpenSSL's reason is one that lasts; `heard` is whether any data has come from the peer."""
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
        return Incompatible(f"{place} did not accept our certificate ({reason}); its log says why")
    if "alert internal error" in reason and not heard:  # OpenSSL's alert for a name that its application refuses
        return Incompatible(f"{place} did not accept our certificate, perhaps its name ({reason}); its log says why")
    if heard:
        return None
    if "wrong version number" in reason or "http request" in reason or "packet length too long" in reason:
        return Incompatible(f"{place} does not speak TLS here ({reason}); is it the right port?")
    if "no shared cipher" in reason or "protocol version" in reason or "unsupported protocol" in reason:
        return Incompatible(f"{place} and this end have no TLS version or cipher in common ({reason})")
    return None


def _failed(place: str, reason: str) -> str:
    return f"the TLS connection with {place} failed: {reason}"
