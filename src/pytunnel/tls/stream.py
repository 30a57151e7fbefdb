"""TLS over any trio stream: OpenSSL between two memory BIOs, half-close carried both ways.

OpenSSL never touches a socket here. Ciphertext is read from the transport in large pieces and fed to it; what it
wants to say is collected and sent with one call, so that a turn of the relay costs two system calls and not two for
each record of 16 KiB. The hard parts, and what is done about them:

- *Two tasks*, one that reads and one that writes. OpenSSL's calls are synchronous and trio switches tasks only at
  awaits, so they can't interleave; only sending the collected ciphertext is an await, and a lock keeps its order.
- *Half-close.* `send_eof` sends close_notify and reading goes on, as RFC 8446, 6.1 has it. An end of the transport
  without a close_notify is TruncatedStream: somebody may have cut bytes off.
- *Who is the peer* is decided inside the handshake (pytunnel.tls.verification).
- *Between sockets* (`send_from`, `receive_into`) the scheduler is asked only when there is something to wait for, and
  the bytes stay in the shared buffers: a tenth of a transfer's processor time.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from OpenSSL import SSL

from pytunnel.tls import records
from pytunnel.tls.context import Side
from pytunnel.tls.errors import HandshakeError, PeerRejected, TlsError, TruncatedStream
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.reasons import failed, incompatible, openssl_reason, stream_error
from pytunnel.tls.session import Session, no_certificate, session_of
from pytunnel.tls.verification import Verification
from pytunnel.transport.errors import SinkBroke
from pytunnel.transport.sockets import TURNS, SocketStream

Ciphertext = bytes | bytearray | memoryview

Carried = Callable[[int], None]
"""Is told how many bytes of plaintext a turn has moved."""

_RECORD = 16 * 1024  # RFC 8446, 5.1: the most plaintext that one record holds


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
        self._ciphertext: Ciphertext = b""  # where OpenSSL reads: it must not go away before all is read
        self._drained = False  # whether OpenSSL wants to be fed before it can decrypt more
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
                return session_of(self._tls, self._place)

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
        limit = records.ROOM if max_bytes is None else min(max_bytes, records.ROOM)
        while not self._peer_closed:
            if self._failure is not None:
                raise self._failure
            if self._drained:
                await self._feed()
            if plaintext := self._decrypt(limit):
                self._heard = True
                return plaintext
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
                await self.transport.send_all(records.view(buffer, self._encrypt(piece, buffer)))
        finally:
            records.give_back(buffer)
            self._send_lock.release()

    @property
    def is_over_socket(self) -> bool:
        """Whether `send_from` and `receive_into` can be used."""
        return isinstance(self.transport, SocketStream)

    async def send_from(self, source: SocketStream, carried: Carried) -> None:
        """Encrypt and send what `source` says until its end of file, which is not passed on.

        The same as a loop of receive_some and send_all, at nine tenths of the cost: the bytes lie in the shared
        buffers all the way. `carried` is told the bytes of each turn. Raises SinkBroke where the transport takes no
        more, and what reading `source` raises.
        """
        carrier, turns = self._socket(), 0
        while (size := await self._send_turn(source, carrier)) != 0:
            if size is None:
                await source.wait_readable()
                continue
            carried(size)
            turns += 1
            if not turns % TURNS:
                await trio.lowlevel.checkpoint()

    async def receive_into(self, sink: SocketStream, carried: Carried) -> None:
        """Decrypt what the peer sends, until its close_notify, and send it to `sink`: the way back of `send_from`.

        Raises SinkBroke where `sink` takes no more, and what receive_some raises.
        """
        carrier, turns = self._socket(), 0
        await self._pass_on(self._decrypt(records.ROOM), sink, carried)  # it came with the end of the handshake
        while not self._peer_closed:
            plaintext = self._receive_now(carrier)
            if plaintext is None:
                await self._answer()
                await carrier.wait_readable()
                continue
            await self._pass_on(plaintext, sink, carried)
            turns += 1
            if not turns % TURNS:
                await self._answer()
                await trio.lowlevel.checkpoint()

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

    async def _send_turn(self, source: SocketStream, carrier: SocketStream) -> int | None:
        """Encrypt and send what is there: its size, 0 at the end of file, None when nothing is there yet."""
        while self._send_lock.locked():
            async with self._send_lock:
                pass  # somebody has finished sending
        with records.borrowed_buffer() as cipher:
            with records.borrowed_buffer() as plain:
                room = records.view(plain, records.TURN)
                size = source.read_now(room)
                if not size:
                    return size
                ciphertext = records.view(cipher, self._encrypt(room[:size], cipher))
            try:
                if rest := carrier.write_now(ciphertext):
                    async with self._send_lock:
                        await carrier.send_all(rest)
            except trio.BrokenResourceError as error:
                raise SinkBroke(str(error)) from error.__cause__
        return size

    def _receive_now(self, carrier: SocketStream) -> memoryview | None:
        """A turn's plaintext, which may be empty; None when nothing has come yet."""
        with records.borrowed_buffer() as buffer:
            room = records.view(buffer, records.CIPHERTEXT)
            size = carrier.read_now(room)
            if size is None:
                return None
            self._let_decrypt(room[:size])
            return self._decrypt(records.ROOM)  # that is all of it, so that the buffer is free again

    async def _pass_on(self, plaintext: memoryview, sink: SocketStream, carried: Carried) -> None:
        """Send decrypted bytes to `sink`, then raise what ended the connection, if anything did."""
        if plaintext:
            self._heard = True
            try:
                if rest := sink.write_now(plaintext):
                    await sink.send_all(rest)
            except trio.BrokenResourceError as error:
                raise SinkBroke(str(error)) from error.__cause__
            carried(len(plaintext))
        self._take_back()
        if self._failure is not None:
            raise self._failure

    def _socket(self) -> SocketStream:
        if not isinstance(self.transport, SocketStream):
            raise TypeError(f"TLS runs over {type(self.transport).__name__} here, and not over a socket")
        return self.transport

    async def _begin_sending(self) -> None:
        """Take the lock that keeps the order of ciphertext; a free one costs no turn of the scheduler."""
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._send_lock.acquire()

    def _encrypt(self, plaintext: bytes | bytearray | memoryview, buffer: records.Buffer) -> int:
        try:
            return records.encrypt(self._tls, plaintext, buffer)
        except SSL.Error as error:
            raise self._stream_error(error) from error

    def _decrypt(self, limit: int) -> memoryview:
        """Plaintext of all complete records that OpenSSL was fed, up to `limit` bytes.

        What came before a broken record is given out first; OpenSSL tells the reason only once, so it is kept.
        """
        buffer = records.take_buffer()
        size, ended = records.decrypt(self._tls, buffer, limit)
        if ended is not None:
            records.feed(self._tls, b"")  # what follows the end is for nobody
        if size < limit:
            self._ciphertext, self._drained = b"", True
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
        await self._answer()
        self._let_decrypt(await self.transport.receive_some(records.CIPHERTEXT))

    def _let_decrypt(self, ciphertext: Ciphertext) -> None:
        """Feed OpenSSL what came from the transport; nothing is the transport's end, which says TruncatedStream."""
        if not ciphertext:
            self._broken = True
            raise TruncatedStream(
                f"{self._place} ended the connection without TLS's close_notify, so bytes may be missing"
            )
        self._ciphertext, self._drained = ciphertext, False
        records.feed(self._tls, ciphertext)

    async def _answer(self) -> None:
        """Send what OpenSSL answers to the peer's own messages (to a KeyUpdate; that it refuses to renegotiate).

        Who is sending already takes it along: a reader that waited for a writer could wait for ever. Raises TlsError
        where a peer that takes nothing demands ever more.
        """
        size = records.unsaid(self._tls)
        if not size:
            return
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            if size > records.MOST_UNSAID:
                self._broken = True
                raise TlsError(failed(self._place, "it demands answers, and does not take them")) from None
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

    def _handshake_error(self, error: SSL.Error) -> TlsError:
        if self._verification.refusal is not None:
            return PeerRejected(self._verification.refusal)
        reason = openssl_reason(error)
        if "did not return a certificate" in reason:
            return PeerRejected(no_certificate(self._place))
        return incompatible(self._place, reason, heard=False) or HandshakeError(failed(self._place, reason))

    def _stream_error(self, error: SSL.Error) -> TlsError:
        self._broken = True
        return stream_error(self._place, openssl_reason(error), heard=self._heard)
