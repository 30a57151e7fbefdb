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
from pytunnel.tls.engine import Engine
from pytunnel.tls.errors import TlsError
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.reasons import failed
from pytunnel.tls.session import Session
from pytunnel.transport.errors import SinkBroke
from pytunnel.transport.sockets import TURNS, SocketStream, read_now, write_now

Carried = Callable[[int], None]
"""Is told how many bytes of plaintext have been moved, a turn's or a few turns'."""

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
        self._engine = Engine(context, side, place, expected, server_name)
        self._shown: tuple[memoryview, records.Buffer] | None = None
        self._send_lock = trio.Lock()
        self._eof_sent = False

    async def handshake(self) -> Session:
        """Agree on keys and verify the peer; the caller sets the time limit.

        Raises PeerRejected when the peer isn't trusted, HandshakeError for any other end.
        """
        while True:
            try:
                session = self._engine.shake_hands()
            except TlsError:
                await self._send_alert()
                raise
            await self._flush()
            if session is not None:
                return session
            await self._feed_handshake()

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
        while not self._engine.peer_closed:
            if self._engine.failure is not None:
                raise self._engine.failure
            if self._engine.drained:
                await self._feed()
            if plaintext := self._show(limit):
                return plaintext
            self._take_back()
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
                with records.place_of(piece) as plain:
                    size = self._engine.encrypt(plain, len(piece), buffer)
                await self.transport.send_all(records.view(buffer, size))
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
        buffers all the way. `carried` is told of the bytes. Raises SinkBroke where the transport takes no
        more, and what reading `source` raises.
        """
        carrier = self._socket()
        while (size := await self._send_turns(source, carrier, carried)) != 0:
            if size is None:
                await source.wait_readable()
            else:
                await trio.lowlevel.checkpoint()

    async def receive_into(self, sink: SocketStream, carried: Carried) -> None:
        """Decrypt what the peer sends, until its close_notify, and send it to `sink`: the way back of `send_from`.

        Raises SinkBroke where `sink` takes no more, and what receive_some raises.
        """
        carrier = self._socket()
        with records.BorrowedBuffer() as plain:
            came = self._engine.decrypt(plain, records.ROOM)  # together with the end of the handshake
            await self._pass_on(records.view(plain, came), sink, carried)
        while not self._engine.peer_closed:
            more = await self._receive_turns(carrier, sink, carried)
            await self._answer()
            if more:
                await trio.lowlevel.checkpoint()
            else:
                await carrier.wait_readable()

    async def send_eof(self) -> None:
        """Tell the peer with a close_notify that nothing more comes; reading goes on."""
        if self._eof_sent:
            return
        await self._begin_sending()
        try:
            self._eof_sent = True
            self._engine.close()
            await self._send_pending()
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
            if not self._engine.broken:
                await self.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError, TlsError):
            self._engine.broken = True  # the peer has gone already: there is nobody to tell
        finally:
            await self.transport.aclose()

    async def _send_turns(self, source: SocketStream, carrier: SocketStream, carried: Carried) -> int | None:
        """Encrypt and send what is there, a few turns of it.

        Returns the last turn's size, 0 at the end of file, None when nothing is there yet.
        """
        while self._send_lock.locked():
            async with self._send_lock:
                pass  # somebody has finished sending
        with records.BorrowedBuffer() as cipher:
            size, rest = self._send_now(source, carrier, carried, cipher)
            if rest and size:
                async with self._send_lock:
                    await _finish(carrier, rest)
                carried(size)
        return size

    def _send_now(
        self, source: SocketStream, carrier: SocketStream, carried: Carried, cipher: records.Buffer
    ) -> tuple[int | None, memoryview]:
        """As many turns as go without waiting, TURNS at most: the last one's size, and its ciphertext still to send.

        No coroutine and no buffer is made for each turn: rsync writes 64 KiB at a time, and they would cost nearly half
        as much as encrypting that.
        """
        reading, writing = source.descriptor(), carrier.descriptor()
        sent = 0
        with records.BorrowedBuffer() as plain:
            room, made = records.view(plain, records.TURN), records.view(cipher, records.ROOM)
            try:
                for _ in range(TURNS):
                    size = read_now(reading, room)
                    if not size:
                        return size, made[:0]
                    if rest := _write(writing, made[: self._engine.encrypt(plain, size, cipher)]):
                        return size, rest
                    sent += size
            finally:
                if sent:
                    carried(sent)
        return size, made[:0]

    async def _receive_turns(self, carrier: SocketStream, sink: SocketStream, carried: Carried) -> bool:
        """Decrypt and pass on what is there, a few turns of it; whether more may be there."""
        with records.BorrowedBuffer() as plain:
            more, rest = self._receive_now(carrier, sink, carried, plain)
            await self._pass_on(rest, sink, carried)
        return more

    def _receive_now(
        self, carrier: SocketStream, sink: SocketStream, carried: Carried, plain: records.Buffer
    ) -> tuple[bool, memoryview]:
        """As many turns as go without waiting, TURNS at most; the plaintext that is still to pass on comes last."""
        reading, writing = carrier.descriptor(), sink.descriptor()
        taken = 0
        made = records.view(plain, records.ROOM)
        with records.BorrowedBuffer() as cipher:
            room = records.view(cipher, records.CIPHERTEXT)
            try:
                for _ in range(TURNS):
                    size = read_now(reading, room)
                    if size is None:
                        return False, made[:0]
                    self._engine.feed(room[:size])
                    came = self._engine.decrypt(plain, records.ROOM)  # all of it: the room is free again
                    rest = _write(writing, made[:came])
                    taken += came - len(rest)
                    if rest:
                        return True, rest
                    if self._engine.failure is not None or self._engine.peer_closed:
                        break
            finally:
                if taken:
                    carried(taken)
        return True, made[:0]

    async def _pass_on(self, plaintext: memoryview, sink: SocketStream, carried: Carried) -> None:
        """Send decrypted bytes to `sink`, then raise what ended the connection, if anything did."""
        if plaintext:
            await _finish(sink, plaintext)
            carried(len(plaintext))
        if self._engine.failure is not None:
            raise self._engine.failure

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

    def _show(self, limit: int) -> memoryview:
        """Decrypted bytes that are valid until they are taken back."""
        buffer = records.take_buffer()
        plaintext = records.view(buffer, self._engine.decrypt(buffer, limit))
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
        await self._answer()
        self._engine.feed(await self.transport.receive_some(records.CIPHERTEXT))

    async def _answer(self) -> None:
        """Send what OpenSSL answers to the peer's own messages (to a KeyUpdate; that it refuses to renegotiate).

        Who is sending already takes it along: a reader that waited for a writer could wait for ever. Raises TlsError
        where a peer that takes nothing demands ever more.
        """
        size = self._engine.unsaid()
        if not size:
            return
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            if size > records.MOST_UNSAID:
                self._engine.broken = True
                raise TlsError(failed(self._engine.place, "it demands answers, and does not take them")) from None
            return
        try:
            await self._send_pending()
        except trio.BrokenResourceError:
            self._engine.broken = True  # what the peer has said before it went is still to be read
        finally:
            self._send_lock.release()

    async def _feed_handshake(self) -> None:
        try:
            ciphertext = await self.transport.receive_some(_RECORD)
        except trio.BrokenResourceError as error:
            raise self._engine.break_off("broke the connection off") from error
        if not ciphertext:
            raise self._engine.break_off("closed the connection")
        self._engine.feed(ciphertext)

    async def _flush(self) -> None:
        await self._begin_sending()
        try:
            await self._send_pending()
        except trio.BrokenResourceError as error:
            raise self._engine.break_off("broke the connection off") from error
        finally:
            self._send_lock.release()

    async def _send_alert(self) -> None:
        """Let the peer know why; it may be gone, and the failure that is reported is the first one."""
        try:
            await self._send_pending()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._engine.broken = True

    async def _send_pending(self) -> None:
        with records.BorrowedBuffer() as buffer:
            while size := self._engine.collect(buffer):
                await self.transport.send_all(records.view(buffer, size))


def _write(sink: int, data: memoryview) -> memoryview:
    """Send what the socket takes at once, and return the rest."""
    try:
        return write_now(sink, data)
    except trio.BrokenResourceError as error:
        raise SinkBroke(str(error)) from error.__cause__


async def _finish(sink: SocketStream, rest: memoryview) -> None:
    """Send what the socket didn't take at once."""
    try:
        await sink.send_all(rest)
    except trio.BrokenResourceError as error:
        raise SinkBroke(str(error)) from error.__cause__
