"""A WebSocket as a stream: what passes, what a peer can't make it do, and how it ends. The peer speaks raw frames."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket
from trio.testing import memory_stream_pair, wait_all_tasks_blocked
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

from pytunnel.transport import websocket
from pytunnel.transport.endpoint import TcpEndpoint, WebSocketEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.upgrade import answer, ask
from pytunnel.transport.websocket import MESSAGE_LIMIT, PING_EVERY, WebSocketStream
from tests.support.concurrency import in_trio_without_waiting

EDGE = WebSocketEndpoint(TcpEndpoint("edge.example", 80), "/sst", False)
BINARY, TEXT, CLOSE, PING, PONG, CONTINUATION = 0x82, 0x81, 0x88, 0x89, 0x8A, 0x80
MASK = b"\x11\x22\x33\x44"

Duplex = trio.abc.HalfCloseableStream


def frame(kind: int, payload: bytes = b"", *, masked: bool = True, claimed: int | None = None) -> bytes:
    """One frame as a client sends it; `claimed` is the length that it announces."""
    size = len(payload) if claimed is None else claimed
    flag = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", kind, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", kind, flag | 126, size)
    else:
        head = struct.pack("!BBQ", kind, flag | 127, size)
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[WebSocketStream, Duplex]]:
    """A stream of ours that was accepted, and the raw end of its client, whose request is through."""
    ours, theirs = memory_stream_pair()
    stream = WebSocketStream(ours, ours, "client:1", partial(answer, ours, "client:1", "/sst", ()))
    request = WSConnection(ConnectionType.CLIENT).send(Request(host="edge.example", target="/sst"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.open)
        await theirs.send_all(request)
        assert (await theirs.receive_some(4096)).startswith(b"HTTP/1.1 101 ")
    try:
        yield stream, theirs
    finally:
        await trio.aclose_forcefully(stream)
        await trio.aclose_forcefully(theirs)


@asynccontextmanager
async def both() -> AsyncIterator[tuple[WebSocketStream, WebSocketStream]]:
    """Two streams of ours: the client's and the server's."""
    one, two = memory_stream_pair()
    client = WebSocketStream(one, one, "server", partial(ask, one, EDGE, ()))
    server = WebSocketStream(two, two, "client", partial(answer, two, "client", "/sst", ()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.open)
        await client.open()
    try:
        yield client, server
    finally:
        await trio.aclose_forcefully(client)
        await trio.aclose_forcefully(server)


async def failure(stream: WebSocketStream) -> str:
    """How the next reading fails."""
    with pytest.raises(TransportError) as caught:
        await stream.receive_some()
    return str(caught.value)


async def failure_after(stream: WebSocketStream, received: list[bytes]) -> str:
    """How reading fails in the end; what came before is put into `received`."""
    try:
        while True:
            received.append(await stream.receive_some())
    except TransportError as error:
        return str(error)


async def close_code(raw: Duplex) -> int:
    """The code of the closing frame that comes next; a server's frames are not masked."""
    data = await raw.receive_some(4096)
    assert data[0] == CLOSE
    return int.from_bytes(data[2:4])


# What passes.


@in_trio_without_waiting
async def test_everything_passes_both_ways_in_messages_that_a_peer_accepts() -> None:
    data = bytes(range(256)) * 6000  # more than a message may hold
    async with both() as (client, server):
        for sender, receiver in ((client, server), (server, client)):
            received = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send_all, data)
                while len(received) < len(data):
                    received += await receiver.receive_some()
            assert received == data


@in_trio_without_waiting
async def test_no_more_is_read_than_was_asked_for() -> None:
    async with both() as (client, server):
        await client.send_all(b"abcdef")
        received = b""
        while received != b"abcdef":
            piece = await server.receive_some(2)
            assert len(piece) in (1, 2)
            received += piece


@in_trio_without_waiting
async def test_frames_may_come_together_or_byte_by_byte() -> None:
    async with served() as (stream, raw):
        await raw.send_all(frame(BINARY, b"one") + frame(BINARY, b"") + frame(PONG) + frame(BINARY, b"two"))
        assert await stream.receive_some() == b"onetwo"
        received = bytearray()
        for byte in frame(BINARY, b"three" * 100):
            await raw.send_all(bytes([byte]))
        while len(received) < 500:
            received += await stream.receive_some(1)
        assert received == b"three" * 100


@in_trio_without_waiting
async def test_what_has_come_of_a_message_is_not_held_back() -> None:
    async with served() as (stream, raw):
        await raw.send_all(frame(0x02, b"begun"))  # without the bit that says that it is the last
        assert await stream.receive_some() == b"begun"
        await raw.send_all(frame(BINARY & 0x80, b"ended"))
        assert await stream.receive_some() == b"ended"
        await raw.send_all(frame(BINARY, b"half", claimed=100))
        assert await stream.receive_some() == b"half"


@in_trio_without_waiting
async def test_data_that_comes_with_the_server_s_answer_is_not_lost() -> None:
    ours, theirs = memory_stream_pair()
    stream = WebSocketStream(ours, ours, "server", partial(ask, ours, EDGE, ()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.open)
        server = WSConnection(ConnectionType.SERVER)
        server.receive_data(bytes(await theirs.receive_some(4096)))
        assert [type(event) for event in server.events()] == [Request]
        await theirs.send_all(server.send(AcceptConnection()) + frame(BINARY, b"at once", masked=False))
    assert await stream.receive_some() == b"at once"


@in_trio_without_waiting
async def test_a_client_of_another_library_is_understood() -> None:
    ours, theirs = memory_stream_pair()
    stream = WebSocketStream(ours, ours, "client:1", partial(answer, ours, "client:1", "/sst", ()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.open)
        end: Any = theirs  # more than what its annotation names is possible
        peer = await trio_websocket.wrap_client_stream(nursery, end, "edge.example", "/sst")
        await carry_both_ways(stream, peer)


@in_trio_without_waiting
async def test_a_server_of_another_library_is_understood() -> None:
    ours, theirs = memory_stream_pair()
    stream = WebSocketStream(ours, ours, "server", partial(ask, ours, EDGE, ()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.open)
        request = await trio_websocket.wrap_server_stream(nursery, theirs)
        await carry_both_ways(stream, await request.accept())


async def carry_both_ways(stream: WebSocketStream, peer: trio_websocket.WebSocketConnection) -> None:
    data = bytes(range(256)) * 2000
    await peer.send_message(data)
    received = b""
    while len(received) < len(data):
        received += await stream.receive_some()
    assert received == data
    await stream.send_all(data)
    answered = b""
    while len(answered) < len(data):
        message = await peer.get_message()
        assert isinstance(message, bytes)
        answered += message
    assert answered == data
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await peer.get_message()
    assert caught.value.reason is not None
    assert caught.value.reason.code == 1000


# Pings.


@in_trio_without_waiting
async def test_a_ping_is_answered_with_what_it_held() -> None:
    async with served() as (stream, raw), trio.open_nursery() as nursery:
        nursery.start_soon(stream.keep_alive)
        nursery.start_soon(stream.receive_some)
        await raw.send_all(frame(PING, b"are you there"))
        assert await raw.receive_some(4096) == frame(PONG, b"are you there", masked=False)
        nursery.cancel_scope.cancel()


@in_trio_without_waiting
async def test_an_idle_stream_sends_a_ping_again_and_again() -> None:
    async with served() as (stream, raw), trio.open_nursery() as nursery:
        nursery.start_soon(stream.keep_alive)
        for number in (1, 2):
            assert await raw.receive_some(4096) == frame(PING, masked=False)
            assert trio.current_time() == pytest.approx(number * PING_EVERY, abs=1)
        nursery.cancel_scope.cancel()


def test_pings_are_sent_often_enough_for_the_usual_proxies() -> None:
    assert PING_EVERY <= 50 / 2


@in_trio_without_waiting
async def test_only_the_last_of_many_pings_is_answered() -> None:
    async with served() as (stream, raw), trio.open_nursery() as nursery:
        await raw.send_all(b"".join(frame(PING, str(number).encode()) for number in range(90)) + frame(BINARY, b"x"))
        assert await stream.receive_some() == b"x"
        nursery.start_soon(stream.keep_alive)
        assert await raw.receive_some(4096) == frame(PONG, b"89", masked=False)
        nursery.cancel_scope.cancel()


@in_trio_without_waiting
async def test_who_pings_and_reads_nothing_does_not_keep_us_from_reading() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()  # takes nothing that is not read
    stream = WebSocketStream(ours, ours, "client:1", partial(answer, ours, "client:1", "/sst", ()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.open)
        await theirs.send_all(WSConnection(ConnectionType.CLIENT).send(Request(host="edge", target="/sst")))
        await theirs.receive_some(4096)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"nobody takes this")
        nursery.start_soon(stream.keep_alive)
        await wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(theirs.send_all, frame(PING, b"x") + frame(BINARY, b"data"))
            assert await stream.receive_some() == b"data"
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


# Ends.


@pytest.mark.parametrize("end", [closing(1000), closing(1001, b"going away"), frame(CLOSE)])
@in_trio_without_waiting
async def test_a_usual_closing_is_the_end_of_the_stream_and_is_answered(end: bytes) -> None:
    async with served() as (stream, raw):
        await raw.send_all(frame(BINARY, b"last") + end)
        assert [await stream.receive_some() for _ in range(3)] == [b"last", b"", b""]
        assert (await raw.receive_some(4096))[0] == CLOSE


@pytest.mark.parametrize("code", [1002, 1008, 1009, 1011, 1012, 3000, 4999])
@in_trio_without_waiting
async def test_any_other_closing_is_an_error_with_its_code_and_reason(code: int) -> None:
    async with served() as (stream, raw):
        await raw.send_all(closing(code, b"why"))
        assert await failure(stream) == f"client:1 closed the WebSocket with code {code}: why"


@in_trio_without_waiting
async def test_an_end_without_a_closing_is_an_error() -> None:
    async with served() as (stream, raw):
        await raw.send_all(frame(BINARY, b"some"))
        await raw.aclose()
        assert await stream.receive_some() == b"some"
        assert "without closing its WebSocket" in await failure(stream)


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (frame(TEXT, b"hello"), 1003, "sent a text message"),
        (frame(TEXT, b"\xff\xfe"), 1007, "sent what is no WebSocket message"),
        (b"GET / HTTP/1.1\r\n\r\n", 1002, "sent what is no WebSocket message"),
        (frame(BINARY, b"x", masked=False), 1002, "sent what is no WebSocket message"),
        (frame(0xC2, b"x"), 1002, "sent what is no WebSocket message"),
        (frame(0x83, b"x"), 1002, "sent what is no WebSocket message"),
        (frame(CONTINUATION, b"x"), 1002, "sent what is no WebSocket message"),
        (frame(PING, 126 * b"x"), 1002, "sent what is no WebSocket message"),
        (frame(CLOSE, b"x"), 1002, "sent what is no WebSocket message"),
        (closing(1006), 1002, "sent what is no WebSocket message"),
    ],
)
@in_trio_without_waiting
async def test_what_no_peer_of_ours_sends_ends_the_connection_with_a_code(sent: bytes, code: int, said: str) -> None:
    async with served() as (stream, raw):
        await raw.send_all(frame(BINARY, b"before") + sent + frame(BINARY, b"after"))
        assert await stream.receive_some() == b"before"
        assert said in await failure(stream)
        assert said in await failure(stream)
        assert await close_code(raw) == code
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


@in_trio_without_waiting
async def test_a_crowd_of_small_messages_lets_others_have_their_turn() -> None:
    """Each costs us more than whoever sends it, and nobody has vouched for that one yet."""
    async with served() as (stream, raw), trio.open_nursery() as nursery:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        await raw.send_all(frame(BINARY, b"x") * 5000)
        nursery.start_soon(others)
        assert len(await stream.receive_some()) == 5000
        assert turns > 50
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", [PING, PONG, BINARY])
@in_trio_without_waiting
async def test_a_flood_of_frames_without_data_ends_the_connection(kind: int) -> None:
    async with served() as (stream, raw):
        await raw.send_all(frame(BINARY, b"before") + frame(kind) * 1000)
        assert await stream.receive_some() == b"before"
        assert "frames without data" in await failure(stream)
        assert await close_code(raw) == 1008


@pytest.mark.parametrize("parts", [1, 30])
@in_trio_without_waiting
async def test_a_message_above_the_limit_ends_the_connection(parts: int) -> None:
    async with served() as (stream, raw):
        size = (MESSAGE_LIMIT + parts) // parts
        for number in range(parts):
            kind = (0x02 if number == 0 else 0x00) | (0x80 if number == parts - 1 else 0)
            await raw.send_all(frame(kind, size * b"x"))
        received: list[bytes] = []
        assert f"more than {MESSAGE_LIMIT} bytes" in await failure_after(stream, received)
        assert sum(map(len, received)) <= MESSAGE_LIMIT
        assert await close_code(raw) == 1009


@in_trio_without_waiting
async def test_closing_says_so_and_waits_for_the_answer() -> None:
    async with both() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            assert await server.receive_some() == b""
        await server.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await client.send_all(b"x")


@in_trio_without_waiting
async def test_who_does_not_answer_the_closing_is_left() -> None:
    async with served() as (stream, raw):
        began = trio.current_time()
        await stream.aclose()
        assert trio.current_time() - began == pytest.approx(websocket._CLOSING, abs=0.1)
        assert await close_code(raw) == 1000
        assert await raw.receive_some(1) == b""


@in_trio_without_waiting
async def test_both_ends_may_close_at_the_same_time() -> None:
    async with both() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            nursery.start_soon(server.aclose)
        assert trio.current_time() < websocket._CLOSING


@in_trio_without_waiting
async def test_a_stream_that_is_given_up_is_closed_without_a_word() -> None:
    async with served() as (stream, raw):
        await trio.aclose_forcefully(stream)
        assert await raw.receive_some(4096) == b""


@in_trio_without_waiting
async def test_nothing_follows_a_message_that_was_cut() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    stream = WebSocketStream(ours, ours, "client:1", partial(answer, ours, "client:1", "/sst", ()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.open)
        await theirs.send_all(WSConnection(ConnectionType.CLIENT).send(Request(host="edge", target="/sst")))
        await theirs.receive_some(4096)
    with trio.move_on_after(1):
        await stream.send_all(b"nobody takes this")
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"garbage")
