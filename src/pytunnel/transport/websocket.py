"""A WebSocket (RFC 6455) as a stream of bytes: each binary message is a chunk of it.

wsproto speaks the protocol; this carries its bytes, and bounds what a peer can make us do or hold:

- What has come of a message is handed on at once, so no message is ever collected; one above MESSAGE_LIMIT, a text
  message, and what is no message at all end this connection, with the close code that says so.
- Reading never waits for writing: an answer to a ping is sent by `keep_alive`, the last one only. Else two ends that
  both send much would wait for each other.
- A WebSocket has no half-close, and needs none: the TLS inside says the end of each direction. Here the end of the
  stream is the peer's closing for a usual reason (1000, 1001, none); any other, or none at all, is an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from wsproto import WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason

from pytunnel.transport.carried import CarriedStream
from pytunnel.transport.errors import WebSocketError

MESSAGE_LIMIT = 1024 * 1024
"""Bytes of one message that we accept."""

PING_EVERY = 20.0
"""Seconds; proxies end a WebSocket that carries nothing, nginx after 60, haproxy as Debian sets it up after 50."""

_MOST_EMPTY = 100  # frames without data in one reading: each costs us more than whoever sends it
_FRAMES_A_TURN = 64  # in one reading, until others have their turn: about two milliseconds of work
_LARGEST_SENT = 256 * 1024  # bytes of a message of ours; a turn of the TLS inside fits into one
_TURN = 192 * 1024  # bytes
_LAST_WORDS = 1.0  # seconds that the peer has to take the reason why we end
_CLOSING = 3.0  # seconds for the closing handshake

_USUAL_ENDS = (CloseReason.NORMAL_CLOSURE, CloseReason.GOING_AWAY, CloseReason.NO_STATUS_RCVD)

Open = Callable[[], Awaitable[WSConnection]]


class WebSocketStream(CarriedStream):
    """One WebSocket over `transport`, which it owns.

    `place` names the peer in errors. `open_` does the HTTP part, at the first use of the stream or in `open`: whoever
    accepts a connection must not wait for a stranger's request. `carrier` is the connection under it all.
    """

    def __init__(self, transport: trio.abc.Stream, carrier: trio.abc.Stream, place: str, open_: Open) -> None:
        super().__init__(carrier)
        self.transport = transport
        self._place = place
        self._open = open_
        self._connection: WSConnection | None = None
        self._ready = b""  # of the stream, received and not yet handed on
        self._message = 0  # bytes of the message that is coming in
        self._ended = False
        self._failure: WebSocketError | None = None
        self._send_lock = trio.Lock()
        self._cut = False  # a part of a frame may have been sent, so nothing can follow
        self._pong: Pong | None = None
        self._pong_due = trio.Event()

    async def open(self) -> WSConnection:
        """Do the HTTP part unless it is done; raises TransportError, trio.BrokenResourceError."""
        if self._connection is None:
            self._connection = await self._open()
            await self._take(self._connection)  # what came together with the end of the HTTP part
        return self._connection

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes, b"" after the peer's usual closing. Raises TransportError, trio.BrokenResourceError."""
        connection = await self.open()
        limit = _TURN if max_bytes is None else max_bytes
        while not self._ready and not self._ended:
            if self._failure is not None:
                raise self._failure
            data = await self.transport.receive_some(limit)
            if not data:
                raise WebSocketError(
                    f"{self._place} ended the connection without closing its WebSocket, so bytes may be missing; "
                    "a proxy's time limit?"
                )
            connection.receive_data(bytes(data))
            await self._take(connection)
        data, self._ready = self._ready[:limit], self._ready[limit:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; raises trio.BrokenResourceError, trio.ClosedResourceError."""
        await self.open()
        if len(data) <= _LARGEST_SENT:
            await self._send(BytesMessage(data=bytes(data)))
            return
        rest = memoryview(data)
        while rest:
            await self._send(BytesMessage(data=bytes(rest[:_LARGEST_SENT])))
            rest = rest[_LARGEST_SENT:]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the transport takes more."""
        await self.transport.wait_send_all_might_not_block()

    async def keep_alive(self) -> None:
        """Answer pings, and send one when there was nothing to answer for PING_EVERY; returns when that is over."""
        await self.open()
        while True:
            with trio.move_on_after(PING_EVERY):
                await self._pong_due.wait()
            event, self._pong, self._pong_due = self._pong or Ping(), None, trio.Event()
            try:
                await self._send(event)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def aclose(self) -> None:
        """Close the WebSocket, wait a little for the peer to do the same, and close the transport.

        Cancelled, it closes the transport at once, which the peer sees as an error.
        """
        connection = self._connection
        try:
            if connection is not None and connection.state is ConnectionState.OPEN:
                with trio.move_on_after(_CLOSING):
                    await self._send(CloseConnection(code=CloseReason.NORMAL_CLOSURE))
                    await self._until_closed(connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer has gone already
        finally:
            await self.transport.aclose()

    async def _until_closed(self, connection: WSConnection) -> None:
        """Closing a socket with unread bytes would be a reset, which overtakes what we sent before."""
        while data := await self.transport.receive_some(_TURN):
            connection.receive_data(bytes(data))
            if any(isinstance(event, CloseConnection) for event in connection.events()):
                return

    async def _take(self, connection: WSConnection) -> None:
        """Take in what was received; what comes after the end, or after a failure, is not looked at."""
        pieces: list[bytes] = []
        empty = 0
        for number, event in enumerate(connection.events(), 1):
            if not number % _FRAMES_A_TURN:
                await trio.lowlevel.cancel_shielded_checkpoint()
            empty += not (isinstance(event, BytesMessage | TextMessage) and event.data)
            if empty > _MOST_EMPTY:
                text = f"more than {_MOST_EMPTY} WebSocket frames without data at once"
                await self._give_up(CloseReason.POLICY_VIOLATION, text)
                break
            match event:
                case BytesMessage(data=piece, message_finished=finished):
                    self._message = self._message + len(piece)
                    if self._message > MESSAGE_LIMIT:
                        text = f"a WebSocket message of more than {MESSAGE_LIMIT} bytes"
                        await self._give_up(CloseReason.MESSAGE_TOO_BIG, text)
                        break
                    pieces.append(bytes(piece))
                    if finished:
                        self._message = 0
                case TextMessage():
                    await self._give_up(CloseReason.UNSUPPORTED_DATA, "a text message; expected binary ones")
                    break
                case Ping():
                    self._pong = event.response()
                    self._pong_due.set()
                case CloseConnection() if connection.state is ConnectionState.OPEN:
                    # That is how wsproto tells that it could not understand what came.
                    text = f"what is no WebSocket message ({event.reason})"
                    await self._give_up(CloseReason(event.code), text)
                    break
                case CloseConnection():
                    await self._closed_by_peer(event)
                    break
        if pieces:
            self._ready = pieces[0] if len(pieces) == 1 and not self._ready else b"".join((self._ready, *pieces))

    async def _give_up(self, code: CloseReason, what: str) -> None:
        self._failure = WebSocketError(f"{self._place} sent {what}")
        await self._send_last(CloseConnection(code=code))

    async def _closed_by_peer(self, event: CloseConnection) -> None:
        if event.code in _USUAL_ENDS:
            self._ended = True
        else:
            reason = f": {event.reason}" if event.reason else ""
            text = f"{self._place} closed the WebSocket with code {int(event.code)}{reason}"
            self._failure = WebSocketError(text)
        await self._send_last(event.response())

    async def _send_last(self, event: Event) -> None:
        with trio.move_on_after(_LAST_WORDS):
            try:
                await self._send(event)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the peer has gone, and there is a better reason for the end of this

    async def _send(self, event: Event) -> None:
        """Send one frame at a time; a free lock costs no turn of the scheduler."""
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._send_lock.acquire()
        try:
            await self._send_alone(event)
        finally:
            self._send_lock.release()

    async def _send_alone(self, event: Event) -> None:
        connection = self._connection
        answers = isinstance(event, CloseConnection) and connection is not None
        possible = (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING) if answers else (ConnectionState.OPEN,)
        if connection is None or self._cut or connection.state not in possible:
            raise trio.BrokenResourceError("the WebSocket was closed")
        self._cut = True
        await self.transport.send_all(connection.send(event))
        self._cut = False
