"""TLS between sockets, spliced: what arrives, how it ends, and what a connection that waits keeps."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from OpenSSL import SSL

from pytunnel.tls import records
from pytunnel.tls.errors import TlsError, TruncatedStream
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.errors import SinkBroke
from pytunnel.transport.sockets import SocketStream
from tests.support.concurrency import in_trio
from tests.support.handshakes import shake_hands, stream_pair
from tests.support.reading import read_all
from tests.support.tls_pair import CLIENT, SERVER, VERSIONS


@dataclass(slots=True)
class Carried:
    """What was told of the turns."""

    turns: list[int] = field(default_factory=list)

    def __call__(self, size: int) -> None:
        self.turns.append(size)


@dataclass(slots=True)
class Line:
    """From `writer` through `source`, TLS (`near` to `far`) and `sink` to `reader`: all of it over sockets.

    `carrier` is what `near` sends its ciphertext over.
    """

    writer: SocketStream
    source: SocketStream
    near: TlsStream
    carrier: SocketStream
    far: TlsStream
    sink: SocketStream
    reader: SocketStream
    sent: Carried = field(default_factory=Carried)
    received: Carried = field(default_factory=Carried)

    async def send(self) -> None:
        """Splice one way in, and pass its end of file on as the relay does."""
        await self.near.send_from(self.source, self.sent)
        await self.near.send_eof()

    async def receive(self) -> None:
        """Splice the way out, and pass the end on."""
        await self.far.receive_into(self.sink, self.received)
        await self.sink.send_eof()


def socket_pair() -> tuple[SocketStream, SocketStream]:
    one, other = socket.socketpair()
    return SocketStream(trio.socket.from_stdlib_socket(one)), SocketStream(trio.socket.from_stdlib_socket(other))


@contextmanager
def line(client: SSL.Context = CLIENT) -> Iterator[Line]:
    """A line whose ends have not shaken hands yet."""
    at_far, at_near = socket_pair()
    far, near = stream_pair(SERVER, client, transports=(at_far, at_near))
    (writer, source), (sink, reader) = socket_pair(), socket_pair()
    with ExitStack() as sockets:
        for stream in (writer, source, sink, reader, at_near, at_far):
            sockets.callback(stream.socket.close)
        yield Line(writer, source, near, at_near, far, sink, reader)


@contextmanager
def borrowed() -> Iterator[list[object]]:
    """The buffers that are in use at this moment, of those taken during the block."""
    in_use: list[object] = []
    take, give = records.take_buffer, records.give_back

    def taken() -> object:
        in_use.append(take())
        return in_use[-1]

    def given(buffer: object) -> None:
        in_use.remove(buffer)
        give(buffer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "take_buffer", taken)
        patch.setattr(records, "give_back", given)
        yield in_use


@VERSIONS
@in_trio
async def test_all_bytes_arrive_as_they_were_and_are_counted(client: SSL.Context) -> None:
    generator = random.Random(1)  # noqa: S311 - data to move, not to hide
    digests: list[str] = []

    async def write(stream: SocketStream) -> None:
        digest = hashlib.sha256()
        for _ in range(60):
            data = generator.randbytes(generator.choice([1, 100, 16_384, 16_385, 70_000, 500_000]))
            digest.update(data)
            await stream.send_all(data)
        await stream.send_eof()
        digests.append(digest.hexdigest())

    with line(client) as spliced:
        await shake_hands(spliced.far, spliced.near)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, spliced.writer)
            nursery.start_soon(spliced.send)
            nursery.start_soon(spliced.receive)
            data = await read_all(spliced.reader)
        assert [hashlib.sha256(data).hexdigest()] == digests
        assert sum(spliced.sent.turns) == sum(spliced.received.turns) == len(data)


@in_trio
async def test_what_came_together_with_the_handshakes_end_is_not_lost() -> None:
    with line() as spliced:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spliced.far.handshake)
            await spliced.near.handshake()
            await spliced.near.send_all(b"early")
            await spliced.near.send_eof()
        await spliced.receive()
        assert await read_all(spliced.reader) == b"early"


@in_trio
async def test_after_the_close_notify_the_other_way_goes_on() -> None:
    with line() as spliced:
        await shake_hands(spliced.far, spliced.near)
        await spliced.near.send_eof()
        await spliced.receive()
        await spliced.far.send_all(b"answer")
        assert await spliced.near.receive_some() == b"answer"


@VERSIONS
@in_trio
async def test_an_end_without_a_close_notify_is_no_end_of_file(client: SSL.Context) -> None:
    with line(client) as spliced:
        await shake_hands(spliced.far, spliced.near)
        await spliced.near.send_all(b"half of it")
        await spliced.carrier.send_eof()
        with pytest.raises(TruncatedStream, match="without TLS's close_notify"):
            await spliced.receive()
        assert await spliced.reader.receive_some() == b"half of it"


@VERSIONS
@in_trio
async def test_what_was_not_encrypted_by_the_peer_is_given_to_nobody(client: SSL.Context) -> None:
    with line(client) as spliced:
        await shake_hands(spliced.far, spliced.near)
        await spliced.near.send_all(b"good")
        await spliced.carrier.send_all(b"\x17\x03\x03\x00\x40" + b"\xa5" * 64)
        with pytest.raises(TlsError, match=r"the TLS connection with the client failed: .*decryption failed or bad"):
            await spliced.receive()
        await spliced.sink.send_eof()
        assert await read_all(spliced.reader) == b"good"


@in_trio
async def test_a_sink_that_takes_no_more_is_told_from_a_peer_that_has_gone() -> None:
    with line() as spliced:
        await shake_hands(spliced.far, spliced.near)
        await spliced.near.send_all(b"for nobody")
        await spliced.reader.aclose()
        with pytest.raises(SinkBroke):
            await spliced.receive()


@in_trio
async def test_a_connection_that_takes_no_more_is_told_from_a_source_that_broke() -> None:
    with line() as spliced:
        await shake_hands(spliced.far, spliced.near)
        await spliced.far.transport.aclose()
        await spliced.writer.send_all(b"for nobody")
        with pytest.raises(SinkBroke):
            await spliced.send()


@in_trio
async def test_a_source_that_breaks_is_no_broken_sink() -> None:
    with line() as spliced:
        await shake_hands(spliced.far, spliced.near)
        await spliced.source.send_all(b"never read")  # so that the close is a reset
        await spliced.writer.aclose()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await spliced.send()
        assert not isinstance(caught.value, SinkBroke)


@in_trio
async def test_a_connection_that_waits_for_data_keeps_no_buffer() -> None:
    with line() as spliced, borrowed() as in_use:
        await shake_hands(spliced.far, spliced.near)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spliced.send)
            nursery.start_soon(spliced.receive)
            await spliced.writer.send_all(bytes(10_000))
            await spliced.reader.receive_some()
            await trio.testing.wait_all_tasks_blocked()
            assert in_use == []
            nursery.cancel_scope.cancel()


@in_trio
async def test_a_reader_that_takes_nothing_makes_the_writer_wait() -> None:
    with line() as spliced, borrowed() as in_use:
        await shake_hands(spliced.far, spliced.near)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spliced.send)
            nursery.start_soon(spliced.receive)
            nursery.start_soon(spliced.writer.send_all, bytes(50_000_000))
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert sum(spliced.sent.turns) < 10_000_000
            assert len(in_use) <= 2
            nursery.cancel_scope.cancel()


@in_trio
async def test_what_is_sent_meanwhile_waits_for_the_rest_of_a_turn() -> None:
    with line() as spliced:
        await shake_hands(spliced.far, spliced.near)
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spliced.near.send_from, spliced.source, spliced.sent)
            nursery.start_soon(spliced.writer.send_all, bytes(3_000_000))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(spliced.near.send_all, b"between two turns")
            while len(received) < 3_000_000 + len(b"between two turns"):
                received += await spliced.far.receive_some()
            nursery.cancel_scope.cancel()
        assert received.replace(b"between two turns", b"") == bytes(3_000_000)
