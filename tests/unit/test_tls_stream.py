"""The TLS stream between two ends in memory: what arrives, and how it ends."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from itertools import chain, repeat

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from OpenSSL._util import ffi, lib
from trio.testing import lockstep_stream_pair, memory_stream_pair

from pytunnel.tls import records
from pytunnel.tls.errors import HandshakeError, TlsError, TruncatedStream
from pytunnel.tls.records import TURN
from pytunnel.tls.stream import TlsStream
from tests.support.concurrency import in_trio_without_waiting
from tests.support.handshakes import outcomes, shake_hands, stream_pair
from tests.support.reading import read_all
from tests.support.tls_pair import CLIENT, CLIENT_1_2, SERVER, VERSIONS, Altered, altered_pair, connected

# What arrives.


@VERSIONS
@in_trio_without_waiting
async def test_both_ends_learn_who_the_other_is(client: SSL.Context) -> None:
    at_server, at_client = await shake_hands(*stream_pair(SERVER, client))
    assert (at_server.peer_name, at_client.peer_name) == ("CN=node2", "CN=node1")
    assert (at_server.version, at_server.cipher) == (at_client.version, at_client.cipher)


@VERSIONS
@in_trio_without_waiting
async def test_an_end_of_file_is_carried_and_the_other_way_goes_on(client: SSL.Context) -> None:
    for near, far in (await connected(client), reversed(await connected(client))):
        await near.send_all(b"question")
        await near.send_eof()
        assert await read_all(far) == b"question"
        await far.send_all(b"answer")
        await far.send_eof()
        assert await read_all(near) == b"answer"


@in_trio_without_waiting
async def test_an_end_of_file_stays_one() -> None:
    near, far = await connected()
    await near.send_eof()
    assert [await far.receive_some(), await far.receive_some()] == [b"", b""]


@in_trio_without_waiting
async def test_nothing_can_be_sent_after_an_end_of_file() -> None:
    near, _ = await connected()
    await near.send_eof()
    await near.send_eof()
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"more")


@in_trio_without_waiting
async def test_no_more_is_received_than_was_asked_for() -> None:
    near, far = await connected()
    await near.send_all(bytes(50_000))
    sizes = [len(await far.receive_some(limit)) for limit in (1, 100, 20_000)]
    assert sizes == [1, 100, 20_000]


@in_trio_without_waiting
async def test_a_turn_s_bytes_arrive_in_one_piece() -> None:
    near, far = await connected()
    await near.send_all(bytes(TURN))
    assert len(await far.receive_some()) == TURN


pieces = st.lists(st.integers(1, 40_000) | st.integers(1, 50), min_size=1, max_size=20)
contents = st.lists(st.binary(max_size=100) | st.integers(0, 60_000).map(bytes), max_size=5)


@settings(max_examples=60, deadline=None)
@given(contents, contents, pieces, pieces, st.sampled_from([CLIENT, CLIENT_1_2]))
@in_trio_without_waiting
async def test_any_data_arrives_however_the_ciphertext_is_cut_in_pieces(
    up: Sequence[bytes], down: Sequence[bytes], cuts_up: list[int], cuts_down: list[int], client: SSL.Context
) -> None:
    at_server, at_client = memory_stream_pair()
    transports = (
        Altered(at_server, chain(cuts_up, repeat(70_000))),
        Altered(at_client, chain(cuts_down, repeat(70_000))),
    )
    server_end, client_end = stream_pair(SERVER, client, transports=transports)
    await shake_hands(server_end, client_end)
    received: dict[str, bytes] = {}

    async def send(stream: TlsStream, content: Sequence[bytes]) -> None:
        for data in content:
            await stream.send_all(data)
        await stream.send_eof()

    async def receive(name: str, stream: TlsStream) -> None:
        received[name] = await read_all(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, client_end, up)
        nursery.start_soon(send, server_end, down)
        nursery.start_soon(receive, "up", server_end)
        nursery.start_soon(receive, "down", client_end)
    assert (received["up"], received["down"]) == (b"".join(up), b"".join(down))


@VERSIONS
@in_trio_without_waiting
async def test_much_data_both_ways_at_once_arrives_as_it_was(client: SSL.Context) -> None:
    streams = stream_pair(SERVER, client, transports=lockstep_stream_pair())
    turns = 40
    sent: dict[TlsStream, str] = {}
    received: dict[TlsStream, str] = {}

    async def send(stream: TlsStream, seed: int) -> None:
        generator, digest = random.Random(seed), hashlib.sha256()  # noqa: S311 - data to move, not to hide
        for _ in range(turns):
            data = generator.randbytes(generator.randrange(1, TURN))
            digest.update(data)
            await stream.send_all(data)
        await stream.send_eof()
        sent[stream] = digest.hexdigest()

    async def receive(stream: TlsStream) -> None:
        digest = hashlib.sha256()
        while data := await stream.receive_some():
            digest.update(data)
        received[stream] = digest.hexdigest()

    async def serve(stream: TlsStream, seed: int) -> None:
        await stream.handshake()
        nursery.start_soon(send, stream, seed)
        nursery.start_soon(receive, stream)

    async with trio.open_nursery() as nursery:
        for seed, stream in enumerate(streams):
            nursery.start_soon(serve, stream, seed)
    assert (received[streams[0]], received[streams[1]]) == (sent[streams[1]], sent[streams[0]])


# How it ends.


@VERSIONS
@in_trio_without_waiting
async def test_an_end_without_a_close_notify_is_no_end_of_file(client: SSL.Context) -> None:
    near, far = await connected(client)
    await near.send_all(b"half of it")
    await near.transport.aclose()
    assert await far.receive_some() == b"half of it"
    for _ in range(2):
        with pytest.raises(
            TruncatedStream, match="the server ended the connection without TLS's close_notify"
        ) as caught:
            await far.receive_some()
        assert "bytes may be missing" in str(caught.value)


@in_trio_without_waiting
async def test_a_stream_that_is_closed_says_so() -> None:
    near, far = await connected()
    await near.aclose()
    assert await far.receive_some() == b""


@in_trio_without_waiting
async def test_a_stream_that_is_closed_by_force_does_not_look_complete() -> None:
    near, far = await connected()
    await trio.aclose_forcefully(near)
    with pytest.raises(TruncatedStream):
        await far.receive_some()


@in_trio_without_waiting
async def test_closing_goes_well_when_the_peer_has_gone() -> None:
    near, far = await connected()
    await far.transport.aclose()
    await near.aclose()


@in_trio_without_waiting
async def test_sending_to_a_peer_that_has_gone_is_an_error() -> None:
    near, far = await connected()
    await far.transport.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(b"anyone there?")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.booleans(), st.sampled_from([CLIENT, CLIENT_1_2]))
@in_trio_without_waiting
async def test_a_connection_cut_anywhere_is_an_error(place: int, at_server: bool, client: SSL.Context) -> None:
    transports = altered_pair()
    streams = stream_pair(SERVER, client, transports=transports)
    transports[0 if at_server else 1].ends_after = place
    reader, writer = streams if at_server else tuple(reversed(streams))
    outcome = (await outcomes(*streams))[0 if at_server else 1]
    if isinstance(outcome, TlsError):
        assert isinstance(outcome, HandshakeError)
        return
    await writer.send_all(bytes(5000))
    await writer.send_eof()
    with pytest.raises(TruncatedStream):
        await read_all(reader)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 45_000), st.integers(1, 45_000), st.sampled_from([CLIENT, CLIENT_1_2]))
@example(4, 5, CLIENT)  # the length of the first record
@in_trio_without_waiting
async def test_no_altered_byte_is_ever_given_out(place: int, size: int, client: SSL.Context) -> None:
    transports = altered_pair()
    writer, reader = stream_pair(SERVER, client, transports=transports)
    await shake_hands(writer, reader)
    content = random.Random(size).randbytes(size)  # noqa: S311 - data to move, not to hide
    transports[1].flips = transports[1].arrived + place % size
    await writer.send_all(content)
    await writer.aclose()  # an altered length may ask for more than ever comes
    received = bytearray()
    with pytest.raises(TlsError) as caught:
        await read_all(reader, received)
    assert content.startswith(received)
    assert len(received) < size
    said = str(caught.value)
    assert any(words in said for words in ("does not speak TLS", "the server failed: ", "without TLS's close_notify"))


@in_trio_without_waiting
async def test_the_reason_is_given_after_the_good_data_and_again() -> None:
    transports = altered_pair()
    writer, reader = stream_pair(SERVER, CLIENT, transports=transports)
    await shake_hands(writer, reader)
    await writer.send_all(b"good")
    transports[1].flips = transports[1].arrived + 600
    await writer.send_all(bytes(2000))
    assert await reader.receive_some() == b"good"
    for _ in range(2):
        with pytest.raises(
            TlsError, match="the TLS connection with the server failed: decryption failed or bad record"
        ):
            await reader.receive_some()


@in_trio_without_waiting
async def test_an_internal_error_of_the_peer_s_is_about_our_certificate_only_before_any_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    near, far = await connected()
    await near.send_all(b"good")
    assert await far.receive_some() == b"good"

    def alert(*_: object) -> tuple[int, SSL.Error]:
        return 0, SSL.Error([("SSL routines", "", "tlsv1 alert internal error")])

    monkeypatch.setattr(records, "decrypt", alert)
    await near.send_all(b"what is no alert but taken for one")
    with pytest.raises(TlsError, match="the TLS connection with the server failed: tlsv1 alert internal error"):
        await far.receive_some()


@in_trio_without_waiting
async def test_a_view_of_plaintext_is_released_by_the_next_call() -> None:
    near, far = await connected()
    await near.send_all(b"first")
    first = await far.receive_view()
    assert bytes(first) == b"first"
    await near.send_all(b"second")
    assert await far.receive_some() == b"second"
    with pytest.raises(ValueError, match="released"):
        bytes(first)


@in_trio_without_waiting
async def test_two_streams_never_show_the_same_buffer() -> None:
    one, one_end = await connected()
    two, two_end = await connected()
    await one.send_all(b"one")
    first = await one_end.receive_view()
    await two.send_all(b"two")
    second = await two_end.receive_view()
    assert (bytes(first), bytes(second)) == (b"one", b"two")


@in_trio_without_waiting
async def test_what_follows_the_end_is_given_to_nobody() -> None:
    ours, theirs = memory_stream_pair()
    near, far = stream_pair(SERVER, CLIENT, transports=(ours, theirs))
    await shake_hands(near, far)
    await far.send_all(b"all")
    await far.send_eof()
    await theirs.send_all(b"and more" * 100)
    assert await read_all(near) == b"all"
    assert not lib.BIO_get_mem_data(near._engine._tls._into_ssl, ffi.NULL)
