"""The TLS stream between two ends in memory: what arrives, how it ends, and who is refused with which words."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL, crypto
from OpenSSL._util import ffi, lib
from trio.testing import lockstep_stream_pair, memory_stream_pair

from lab.certificates import Identity, authority, elliptic_key, expired, issued, self_signed
from pytunnel.tls import records
from pytunnel.tls.context import Side, make_context
from pytunnel.tls.credentials import Credentials
from pytunnel.tls.errors import HandshakeError, PeerRejected, TlsError, TruncatedStream
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.records import TURN
from pytunnel.tls.session import Session
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.stream import TlsStream
from tests.support.concurrency import in_trio_without_waiting
from tests.support.credentials import context_of
from tests.support.handshakes import ANYONE, outcomes, shake_hands, stream_pair
from tests.support.reading import read_all

NODE1, NODE2 = self_signed("node1"), self_signed("node2")
STRANGER = self_signed("stranger")
BOTH = (NODE1, NODE2)
SERVER, CLIENT = context_of(NODE1, BOTH), context_of(NODE2, BOTH)
CLIENT_1_2 = context_of(NODE2, BOTH, maximum="1.2")

VERSIONS = pytest.mark.parametrize("client", [CLIENT, CLIENT_1_2], ids=["TLS 1.3", "TLS 1.2"])


class Altered(trio.abc.HalfCloseableStream):
    """A transport that gives out what arrives in pieces of these sizes.

    `ends_after` so many bytes it ends, and byte number `flips` is another one than was sent; None is never.
    """

    def __init__(self, inner: trio.abc.HalfCloseableStream, sizes: Iterator[int] | None = None) -> None:
        self.inner = inner
        self.sizes = sizes or repeat(65536)
        self.ends_after: int | None = None
        self.flips: int | None = None
        self.arrived = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        size = min(next(self.sizes), max_bytes or 65536)
        if self.ends_after is not None:
            size = min(size, self.ends_after - self.arrived)
        if size == 0:
            return b""
        data = bytearray(await self.inner.receive_some(size))
        if self.flips is not None and self.arrived <= self.flips < self.arrived + len(data):
            data[self.flips - self.arrived] ^= 0xFF
        self.arrived += len(data)
        return bytes(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def aclose(self) -> None:
        await self.inner.aclose()


def altered_pair() -> tuple[Altered, Altered]:
    one, other = memory_stream_pair()
    return Altered(one), Altered(other)


async def connected(client: SSL.Context = CLIENT) -> tuple[TlsStream, TlsStream]:
    streams = stream_pair(SERVER, client)
    await shake_hands(*streams)
    return streams


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
@in_trio_without_waiting
async def test_no_altered_byte_is_ever_given_out(place: int, size: int, client: SSL.Context) -> None:
    transports = altered_pair()
    writer, reader = stream_pair(SERVER, client, transports=transports)
    await shake_hands(writer, reader)
    content = random.Random(size).randbytes(size)  # noqa: S311 - data to move, not to hide
    transports[1].flips = transports[1].arrived + place % size
    await writer.send_all(content)
    await writer.send_eof()
    received = bytearray()
    with pytest.raises(TlsError) as caught:
        await read_all(reader, received)
    assert content.startswith(received)
    assert len(received) < size
    assert str(caught.value).startswith("the server does not speak TLS") or "the server failed: " in str(caught.value)


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


# What isn't TLS.


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 100, b"@RSYNCD: 31.0\n", b"\xff" * 1000]
)
@in_trio_without_waiting
async def test_a_client_that_speaks_something_else_is_told_apart(said: bytes) -> None:
    transport, talker = memory_stream_pair()
    server = TlsStream(transport, SERVER, Side.SERVER, place="the client", expected=ANYONE)
    await talker.send_all(said)
    with pytest.raises(HandshakeError, match="the client does not speak TLS here"):
        await server.handshake()


@in_trio_without_waiting
async def test_a_server_that_speaks_something_else_is_told_apart() -> None:
    transport, talker = memory_stream_pair()
    client = TlsStream(transport, CLIENT, Side.CLIENT, place="the server", expected=ANYONE)
    await talker.send_all(b"5.5.5-10.11.6-MariaDB\0\0\0\0\0\0")
    with pytest.raises(HandshakeError, match=r"the server does not speak TLS here .* is it the right port\?"):
        await client.handshake()


@settings(max_examples=100, deadline=None)
@given(st.binary() | st.binary(min_size=1).map(lambda rest: b"\x16\x03\x01" + rest), st.sampled_from(Side))
@in_trio_without_waiting
async def test_any_bytes_in_a_handshake_s_place_end_it_with_one_sentence(said: bytes, side: Side) -> None:
    transport, talker = memory_stream_pair()
    context = SERVER if side is Side.SERVER else CLIENT
    stream = TlsStream(transport, context, side, place="the peer", expected=ANYONE)
    await talker.send_all(said)
    await talker.send_eof()
    with pytest.raises(HandshakeError) as caught:
        await stream.handshake()
    assert "the peer" in str(caught.value)
    assert str(caught.value).isprintable()


@in_trio_without_waiting
async def test_a_peer_that_breaks_off_is_told_apart_from_one_that_closes() -> None:
    class Reset(Altered):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise trio.BrokenResourceError("reset by peer")

    stream = TlsStream(Reset(memory_stream_pair()[0]), CLIENT, Side.CLIENT, place="the server", expected=ANYONE)
    with pytest.raises(HandshakeError, match=r"the server broke the connection off during .* its log says why"):
        await stream.handshake()


# Who is refused.


async def said_by_both(
    server: SSL.Context, client: SSL.Context, of_server: ExpectedPeer = ANYONE, of_client: ExpectedPeer = ANYONE
) -> list[str]:
    """What each end says of a connection that one of them refuses; in TLS 1.3 a client learns it when it reads."""
    streams = stream_pair(server, client, of_server=of_server, of_client=of_client)
    found = await outcomes(*streams)
    for index, outcome in enumerate(found):
        if isinstance(outcome, Session):
            with pytest.raises(TlsError) as caught:
                await streams[index].receive_some()
            found[index] = caught.value
    return [str(outcome) for outcome in found]


@VERSIONS
@in_trio_without_waiting
async def test_a_server_with_another_name_is_refused(client: SSL.Context) -> None:
    at_server, at_client = await said_by_both(SERVER, client, of_server=ExpectedPeer(("node7", "10.0.0.7")))
    assert at_client == (
        "the server presented CN=node1, expected node7 or 10.0.0.7 (certificate from /CN=node1, valid until "
        f"{NODE1.certificate.not_valid_after_utc:%Y-%m-%d}); give --peer-name (sockopt: commonname=) if that is meant"
    )
    assert at_server.startswith("the client did not accept our certificate, perhaps its name (")


@VERSIONS
@in_trio_without_waiting
async def test_a_client_with_another_name_is_refused(client: SSL.Context) -> None:
    at_server, at_client = await said_by_both(SERVER, client, of_client=ExpectedPeer(("node7",)))
    assert at_server.startswith("the client presented CN=node2, expected node7 (certificate from /CN=node2,")
    assert at_client.startswith("the server did not accept our certificate, perhaps its name (")


CA, OTHER_CA = authority("Authority"), authority("Other Authority")
TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (STRANGER, "it is self-signed and not in our CA file; add it there"),
        (issued(OTHER_CA, "node3"), "its issuer is not in our CA file; add the issuer's certificate there"),
        (expired(CA, "node3"), "it has expired; renew it"),
        (issued(CA, "node3", start=TOMORROW), "it is not valid yet; are the clocks of both hosts right?"),
        (issued(issued(CA, "node2"), "node3"), "its issuer is not in our CA file; add the issuer's certificate there"),
    ],
    ids=["self-signed", "other CA", "expired", "not yet valid", "issued by a node"],
)
@VERSIONS
@in_trio_without_waiting
async def test_a_client_that_cannot_be_trusted_is_refused(shown: Identity, reason: str, client: SSL.Context) -> None:
    maximum = "1.2" if client is CLIENT_1_2 else "1.3"
    server = context_of(issued(CA, "node1"), [CA])
    at_server, at_client = await said_by_both(server, context_of(shown, [CA], maximum=maximum))
    name = "stranger" if shown is STRANGER else "node3"
    assert at_server == f"the client presented CN={name}, which can't be trusted: {reason}"
    assert at_client.startswith("the server did not accept our certificate (")


@in_trio_without_waiting
async def test_a_server_that_cannot_be_trusted_is_refused() -> None:
    at_server, at_client = await said_by_both(context_of(STRANGER, BOTH), CLIENT)
    assert at_client.startswith("the server presented CN=stranger, which can't be trusted: it is self-signed")
    assert at_server.startswith("the client did not accept our certificate (")
    assert "unknown ca" in at_server


@in_trio_without_waiting
async def test_a_node_that_is_no_authority_cannot_vouch_for_another_name() -> None:
    node2 = issued(CA, "node2")
    forged = issued(node2, "node1")
    shown = Credentials(forged.certificate, (node2.certificate,), forged.key, (CA.certificate,))
    server = context_of(issued(CA, "node1"), [CA])
    at_server, _ = await said_by_both(server, make_context(TlsSettings(), shown))
    assert at_server == (
        "the client presented a chain with /CN=node2, which can't be trusted: it is not allowed to issue certificates"
    )


@VERSIONS
@in_trio_without_waiting
async def test_a_client_without_a_certificate_is_refused(client: SSL.Context) -> None:
    bare = SSL.Context(SSL.TLS_METHOD)
    bare.set_max_proto_version(SSL.TLS1_3_VERSION if client is CLIENT else SSL.TLS1_2_VERSION)
    at_server, _ = await said_by_both(SERVER, bare)
    assert at_server == "the client presented no certificate; both sides must present one"


def show_strange(context: SSL.Context, old: bytes, new: bytes) -> SSL.Context:
    """Make an end show a certificate in which bytes were replaced; only pyOpenSSL's own types take such a one."""
    key = elliptic_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node3")])
    names = x509.SubjectAlternativeName([x509.DNSName("node3")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.UnrecognizedExtension(TWIN, names.public_bytes()), critical=False)
    )
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    assert old in der
    context.use_certificate(crypto.load_certificate(crypto.FILETYPE_ASN1, der.replace(old, new)))
    context.use_privatekey(crypto.PKey.from_cryptography_key(key))
    return context


TWIN = x509.ObjectIdentifier("2.5.29.99")
NAMES_TWICE = (bytes([0x55, 0x1D, 99]), bytes([0x55, 0x1D, 17]))
VERSION_8 = (bytes([0xA0, 3, 2, 1, 2]), bytes([0xA0, 3, 2, 1, 7]))
STRANGE = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* is deprecated")


@STRANGE
@pytest.mark.parametrize("change", [NAMES_TWICE, VERSION_8], ids=["names twice", "version 8"])
@in_trio_without_waiting
async def test_a_certificate_that_breaks_the_rules_is_refused(change: tuple[bytes, bytes]) -> None:
    at_server, _ = await outcomes(*stream_pair(SERVER, show_strange(context_of(NODE2, BOTH), *change)))
    assert isinstance(at_server, PeerRejected)
    assert str(at_server).startswith("the client presented ")


@STRANGE
@in_trio_without_waiting
async def test_a_certificate_that_cannot_be_read_is_refused_even_by_an_end_that_does_not_verify() -> None:
    server = show_strange(context_of(NODE1, verify=False), *VERSION_8)
    _, at_client = await outcomes(*stream_pair(server, context_of(NODE2, verify=False)))
    assert str(at_client) == "the server presented a certificate that can't be read (7 is not a valid X509 version)"


@STRANGE
@in_trio_without_waiting
async def test_names_that_cannot_be_read_are_left_out_by_an_end_that_does_not_verify() -> None:
    server = show_strange(context_of(NODE1, verify=False), *NAMES_TWICE)
    _, at_client = await shake_hands(*stream_pair(server, context_of(NODE2, verify=False)))
    assert at_client.peer_name == "CN=node3"


# What is announced.


@pytest.mark.parametrize("name", ["node1.my.cluster", ""])
@in_trio_without_waiting
async def test_the_server_s_name_is_announced_unless_it_is_empty(name: str) -> None:
    seen: list[bytes | None] = []
    server = context_of(NODE1, BOTH)
    server.set_tlsext_servername_callback(lambda connection: seen.append(connection.get_servername()))
    transports = memory_stream_pair()
    streams = (
        TlsStream(transports[0], server, Side.SERVER, place="the client", expected=ANYONE),
        TlsStream(transports[1], CLIENT, Side.CLIENT, place="the server", expected=ANYONE, server_name=name),
    )
    await shake_hands(*streams)
    assert seen == ([name.encode()] if name else [None])
