"""The handshake between two ends in memory: who is refused, with which words, and what is announced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL, crypto
from trio.testing import memory_stream_pair

from lab.certificates import Identity, authority, elliptic_key, expired, issued, self_signed
from pytunnel.tls.context import Side, make_context
from pytunnel.tls.credentials import Credentials
from pytunnel.tls.errors import HandshakeError, PeerRejected, TlsError
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.session import Session
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.stream import TlsStream
from tests.support.concurrency import in_trio_without_waiting
from tests.support.credentials import context_of
from tests.support.handshakes import ANYONE, outcomes, shake_hands, stream_pair
from tests.support.tls_pair import BOTH, CLIENT, CLIENT_1_2, NODE1, NODE2, SERVER, VERSIONS, Altered

STRANGER = self_signed("stranger")

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


@in_trio_without_waiting
async def test_a_peer_that_says_good_bye_in_the_handshake_has_closed_the_connection() -> None:
    transport, talker = memory_stream_pair()
    client = TlsStream(transport, CLIENT, Side.CLIENT, place="the server", expected=ANYONE)
    await talker.send_all(b"\x15\x03\x03\x00\x02\x01\x00")  # close_notify
    with pytest.raises(HandshakeError, match="the server closed the connection during the TLS handshake"):
        await client.handshake()


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
