"""What somebody on the network can try as a peer: false certificates, weak TLS, answers that he does not take.

Names are matched in tests/unit/test_identity.py, in every spelling; here are those that an attacker would choose.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL._util import lib
from trio.testing import lockstep_stream_pair, memory_stream_pair

from lab.certificates import Identity, authority, bundle_pem, elliptic_key, expired, issued, revoking, self_signed
from pytunnel.tls.context import Side, make_context
from pytunnel.tls.credentials import Credentials, load_credentials
from pytunnel.tls.errors import HandshakeError, PeerRejected, TlsError
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.sockets import SocketStream
from tests.support import openssl
from tests.support.concurrency import in_trio, in_trio_without_waiting
from tests.support.credentials import context_of, settings_of
from tests.support.ends import NODE1, NODE2
from tests.support.handshakes import outcomes, stream_pair
from tests.support.plain import dial
from tests.support.tunnels import tunnel

CA = authority("Authority")
SERVER, CLIENT = issued(CA, NODE2), issued(CA, NODE1)
DAY = timedelta(days=1)
NOW = datetime.now(UTC)


async def refusal(attacker: SSL.Context, *, as_server: bool) -> TlsError:
    """Why an honest end, which trusts CA alone and expects the right name, refuses the attacker's."""
    of_server, of_client = ExpectedPeer((NODE2,)), ExpectedPeer((NODE1,))
    if as_server:
        _, found = await outcomes(*stream_pair(attacker, context_of(CLIENT, [CA]), of_server=of_server))
    else:
        found, _ = await outcomes(*stream_pair(context_of(SERVER, [CA]), attacker, of_client=of_client))
    assert isinstance(found, TlsError), "the attacker was let in"
    return found


def showing(own: Identity, *chain: Identity) -> SSL.Context:
    """An attacker's end: trusts everyone, shows what it likes."""
    files = Credentials(own.certificate, tuple(item.certificate for item in chain), own.key, ())
    return make_context(TlsSettings(verify=False), files)


def careless(own: Identity) -> SSL.Context:
    """An attacker's end with none of our options."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(own.certificate)
    context.use_privatekey(own.key)
    return context


ROLES = pytest.mark.parametrize("as_server", [True, False], ids=["as server", "as client"])


# Certificates.

FALSE = {
    "of another CA": issued(authority("Other"), NODE2),
    "of a CA with the same name": issued(authority("Authority"), NODE2),
    "self-signed": self_signed(NODE2),
    "expired": expired(CA, NODE2),
    "of tomorrow": issued(CA, NODE2, start=NOW + DAY),
    "issued by a node": issued(CLIENT, NODE2),
}


@ROLES
@pytest.mark.parametrize("kind", FALSE)
@in_trio_without_waiting
async def test_a_false_certificate_with_the_right_name_is_refused(kind: str, as_server: bool) -> None:
    assert isinstance(await refusal(showing(FALSE[kind], CLIENT, CA), as_server=as_server), PeerRejected)


@ROLES
@in_trio_without_waiting
async def test_a_good_certificate_with_another_name_is_refused(as_server: bool) -> None:
    found = await refusal(showing(issued(CA, "node3.my.cluster")), as_server=as_server)
    assert "presented CN=node3.my.cluster, expected node" in str(found)


@pytest.mark.parametrize(
    "name",
    [
        "node2.my.cluster\0.evil.example",
        "evil.example\0node2.my.cluster",
        "*",
        "*.cluster",
        "*.*.cluster",
        "node*.my.cluster",
        "*.node2.my.cluster",
        "node2.my.cluster.evil.example",
        "node2-my-cluster",
        "node2.my.cluste\N{CYRILLIC SMALL LETTER ER}",
        "node2.my.cluster ",
        "node2.my.cluster,node9.my.cluster",
        "node1.my.cluster/CN=node2.my.cluster",
        "",
    ],
)
@in_trio_without_waiting
async def test_a_name_that_only_looks_right_is_refused(name: str) -> None:
    """The CA is honest: it signed what it was asked for, by somebody who owns that name."""
    made = issued(CA, name or "x", names=[name] if name.isascii() and name else [])
    assert "expected node2.my.cluster" in str(await refusal(showing(made), as_server=True))


@pytest.mark.parametrize("name", ["NODE2.My.Cluster", "node2.my.cluster.", "*.my.cluster"])
@in_trio_without_waiting
async def test_a_name_that_is_the_same_is_not_refused(name: str) -> None:
    ends = stream_pair(context_of(issued(CA, name), [CA]), context_of(CLIENT, [CA]), of_server=ExpectedPeer((NODE2,)))
    assert not any(isinstance(found, TlsError) for found in await outcomes(*ends))


@in_trio_without_waiting
async def test_a_name_in_another_field_of_the_subject_is_no_common_name() -> None:
    key = elliptic_key()
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, NODE2), x509.NameAttribute(NameOID.COMMON_NAME, "evil")]
    )
    builder = x509.CertificateBuilder(CA.certificate.subject, subject, key.public_key(), 5, NOW - DAY, NOW + DAY)
    others = [x509.UniformResourceIdentifier(f"https://{NODE2}"), x509.RFC822Name(f"a@{NODE2}")]
    builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    made = Identity(builder.sign(CA.key, hashes.SHA256()), key)
    assert "presented CN=evil, expected" in str(await refusal(showing(made), as_server=True))


@in_trio_without_waiting
async def test_a_common_name_counts_beside_alternative_names_for_the_ca_has_signed_both() -> None:
    """Galera's recipes put the name into the CN; a CA that signs a false CN is no CA to trust."""
    both = issued(CA, NODE2, names=["db.example"])
    for expected in (NODE2, "db.example"):
        ends = stream_pair(context_of(both, [CA]), context_of(CLIENT, [CA]), of_server=ExpectedPeer((expected,)))
        assert not any(isinstance(found, TlsError) for found in await outcomes(*ends))
    assert "CN=node2.my.cluster, DNS:db.example, expected node1" in str(await refusal(showing(both), as_server=False))


# Revocation.


def judged_by(folder: Path, ca_file: bytes) -> SSL.Context:
    """A client that has this text in its CA file."""
    wanted = settings_of(folder, CLIENT, [])
    assert wanted.ca is not None
    wanted.ca.write_bytes(ca_file)
    return make_context(wanted, load_credentials(wanted))


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ([revoking(CA, [SERVER])], "it is revoked (serial number"),
        ([revoking(CA, [], start=NOW - 60 * DAY)], "the revocation list (CRL) of its issuer has expired"),
        ([revoking(authority("Other"), [])], "no revocation list (CRL) of its issuer is among ours"),
        ([revoking(authority("Authority"), [])], "can't be trusted"),
        ([revoking(CA, []), revoking(CA, [CLIENT])], None),
    ],
    ids=["revoked", "list expired", "list of another CA", "forged list", "another is revoked"],
)
@in_trio_without_waiting
async def test_a_list_in_the_ca_file_decides(
    tmp_path_factory: pytest.TempPathFactory, lists: list[bytes], reason: str | None
) -> None:
    folder = tmp_path_factory.mktemp("list") / "client"
    client = judged_by(folder, bundle_pem([CA]) + b"".join(lists))
    _, found = await outcomes(*stream_pair(context_of(SERVER, [CA]), client))
    if reason is None:
        assert not isinstance(found, TlsError)
    else:
        assert isinstance(found, PeerRejected)
        assert reason in str(found)


def test_a_running_listen_refuses_who_is_revoked(tmp_path: Path) -> None:
    server, client = settings_of(tmp_path / "server", SERVER, [CA]), settings_of(tmp_path / "client", CLIENT, [CA])
    assert server.ca is not None
    server.ca.write_bytes(bundle_pem([CA]) + revoking(CA, [CLIENT]))
    with tunnel("listen", server, "127.0.0.1:0", "exec:cat") as listening:
        place = f"127.0.0.1:{listening.port}"
        with tunnel("connect", client, "127.0.0.1:0", place, "--peer-name", NODE2) as connecting:
            with dial(connecting.port) as plain, pytest.raises(ConnectionResetError):
                plain.recv(1)
            listening.wait_for("presented CN=node1.my.cluster, which can't be trusted: it is revoked")
            connecting.wait_for("alert certificate revoked")


# Chains.


@ROLES
@in_trio_without_waiting
async def test_an_oversized_chain_is_refused(as_server: bool) -> None:
    ballast = [self_signed(f"ballast {number} " + "x" * 40, key=CA.key) for number in range(400)]
    found = await refusal(showing(issued(CA, NODE2 if as_server else NODE1), *ballast), as_server=as_server)
    assert isinstance(found, HandshakeError)
    assert "excessive message size" in str(found)


@ROLES
@in_trio_without_waiting
async def test_a_chain_that_is_deep_and_leads_nowhere_is_refused(as_server: bool) -> None:
    deep = [authority("nobody")]
    for number in range(120):
        issuer = deep[0]
        key = elliptic_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"CA {number}")])
        builder = x509.CertificateBuilder(
            issuer.certificate.subject, name, key.public_key(), number + 1, NOW - DAY, NOW + DAY
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        deep.insert(0, Identity(builder.sign(issuer.key, hashes.SHA256()), key))
    found = await refusal(showing(issued(deep[0], NODE2), *deep), as_server=as_server)
    assert isinstance(found, PeerRejected)


@in_trio_without_waiting
async def test_thousands_of_names_in_a_certificate_are_looked_through_and_refused() -> None:
    many = issued(CA, "evil", names=[f"node{number}.example" for number in range(3000)])
    assert isinstance(await refusal(showing(many), as_server=True), PeerRejected)


# Weak TLS.

WEAK = {
    "TLS 1.0": (SSL.TLS1_VERSION, "ALL:@SECLEVEL=0"),
    "TLS 1.1": (SSL.TLS1_1_VERSION, "ALL:@SECLEVEL=0"),
    "no authentication": (SSL.TLS1_2_VERSION, "aNULL:@SECLEVEL=0"),
    "no encryption": (SSL.TLS1_2_VERSION, "eNULL:@SECLEVEL=0"),
    "no forward secrecy": (SSL.TLS1_2_VERSION, "AES256-GCM-SHA384"),
    "CBC": (SSL.TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:@SECLEVEL=0"),
}


@ROLES
@pytest.mark.parametrize("kind", WEAK)
@in_trio_without_waiting
async def test_weak_tls_is_refused(kind: str, as_server: bool) -> None:
    attacker = showing(SERVER if as_server else CLIENT)
    version, ciphers = WEAK[kind]
    attacker.set_min_proto_version(SSL.TLS1_VERSION)
    attacker.set_max_proto_version(version)
    attacker.set_cipher_list(ciphers.encode())
    found = await refusal(attacker, as_server=as_server)
    assert "and this end have no TLS version or cipher in common" in str(found) or "handshake failure" in str(found)


@in_trio_without_waiting
async def test_a_renegotiation_is_refused() -> None:
    ours, theirs = memory_stream_pair()
    server = TlsStream(ours, context_of(SERVER, [CA]), Side.SERVER, place="the peer", expected=ExpectedPeer())
    attacker = careless(CLIENT)
    attacker.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(attacker)
    client.set_connect_state()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handshake)
        while not await finishes(client, theirs):
            pass
    assert client.renegotiate()
    assert not await finishes(client, theirs, answered=False)
    with trio.move_on_after(1) as waiting:
        await server.receive_some()
    assert waiting.cancelled_caught
    # told at once: what waits for our next word would pile up with each request
    client.bio_write(await theirs.receive_some())
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()


async def finishes(client: SSL.Connection, transport: trio.abc.Stream, *, answered: bool = True) -> bool:
    """One step of a handshake: what the client has to say is sent, and what comes back read."""
    done = True
    try:
        client.do_handshake()
    except SSL.WantReadError:
        done = False
    with suppress(SSL.WantReadError):
        await transport.send_all(client.bio_read(65536))
    if not done and answered:
        client.bio_write(await transport.receive_some())
    return done


@in_trio_without_waiting
async def test_who_demands_answers_and_takes_none_is_cut_off() -> None:
    """Its own way of one word each time makes us say one: what can't be sent would fill the memory."""
    async with met_by_an_attacker(lockstep_stream_pair) as (client, attacker, theirs), trio.open_nursery() as nursery:

        async def demand() -> None:
            while True:
                await theirs.send_all(request_to_renegotiate(attacker))

        nursery.start_soon(client.send_all, b"what the attacker does not take")
        nursery.start_soon(demand)
        with pytest.raises(TlsError, match="it demands answers, and does not take them"):
            await client.receive_some()
        nursery.cancel_scope.cancel()


Pair = Callable[[], tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]]


@asynccontextmanager
async def met_by_an_attacker(
    pair: Pair = memory_stream_pair,
) -> AsyncIterator[tuple[TlsStream, SSL.Connection, trio.abc.HalfCloseableStream]]:
    """A client of ours after its handshake with a server that may do anything; TLS 1.2, for its renegotiation."""
    ours, theirs = pair()
    context = context_of(CLIENT, [CA], maximum="1.2")
    client = TlsStream(ours, context, Side.CLIENT, place="the peer", expected=ExpectedPeer())
    attacker = SSL.Connection(careless(SERVER))
    attacker.set_accept_state()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        while not await finishes(attacker, theirs):
            pass
    yield client, attacker, theirs


def request_to_renegotiate(attacker: SSL.Connection) -> bytes:
    assert lib.SSL_renegotiate(attacker._ssl) == 1
    attacker.do_handshake()
    return attacker.bio_read(65536)


@pytest.mark.parametrize("updates", [1000, 20])
@in_trio
async def test_new_keys_without_data_in_between_are_a_reason_to_end_if_there_are_many(
    tmp_path: Path, updates: int
) -> None:
    """Each costs a derivation of keys before others have their turn, and thousands fit into what is read at once."""
    files = settings_of(tmp_path / "attacker", CLIENT, [CA])
    theirs, ours = socket.socketpair()
    transport = SocketStream(trio.socket.from_stdlib_socket(ours))
    server = TlsStream(
        transport, context_of(SERVER, [CA]), Side.SERVER, place="the peer", expected=ExpectedPeer((NODE1,))
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, openssl.update_keys, theirs, files, updates, b"data")
        await server.handshake()
        await trio.sleep(0.2)  # so that they come together
        if updates > 100:
            with pytest.raises(TlsError, match="it sends nothing but messages of TLS itself"):
                await server.receive_some()
        else:
            assert await server.receive_some() == b"data"
        await trio.aclose_forcefully(transport)
    theirs.close()
