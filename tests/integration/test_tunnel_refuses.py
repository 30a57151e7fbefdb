"""Peers that are no peers: each ends its own connection, with one clear sentence, while another goes on."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from lab.certificates import Identity, authority, elliptic_key, expired, issued, self_signed
from lab.ports import free_port
from pytunnel.tls.settings import TlsSettings
from tests.support.credentials import settings_of
from tests.support.ends import NODE1, NODE2, Ends
from tests.support.plain import Place, dial
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, Program, tunnel

CA = authority("Authority")


@dataclass(frozen=True, slots=True)
class Busy:
    """A `listen` with a short limit for handshakes, and a connection through it that must go on whatever comes."""

    listening: Program
    client: socket.socket

    def goes_on(self) -> bool:
        """Whether the connection still carries bytes there and back."""
        self.client.sendall(b"still here")
        return self.client.recv(100) == b"still here"

    def newest_warning(self, pattern: str) -> str:
        """The warning that matches, once it is there."""
        return self.listening.wait_for(f"WARNING .*{pattern}.*")[0]


# A tunnel names only the first ten such failures of a minute, so each group of tests has a tunnel of its own.


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    with _busy(tmp_path_factory.mktemp("busy")) as found:
        yield found


@pytest.fixture(scope="module")
def busy_verifying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    with _busy(tmp_path_factory.mktemp("busy-verifying")) as found:
        yield found


@contextmanager
def _busy(folder: Path) -> Iterator[Busy]:
    with ExitStack() as cleanup:
        ends = Ends.make(folder, cleanup)
        listening, connecting = ends.pair("exec:cat", "--handshake-timeout", "2")
        entrance = connecting.port
        with dial(entrance) as client:
            found = Busy(listening, client)
            assert found.goes_on()
            yield found
            assert found.goes_on()


def ended(connection: socket.socket) -> bool:
    """Whether the other end closes the connection, sooner or later."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


# What is no TLS, or too little or too slow.


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 5000, b"\x16\x03\x01\x10\x00" + b"\xff" * 0x1000, b"SSH-2.0-x\r\n"],
    ids=["HTTP", "zeros", "a record of nonsense", "SSH"],
)
def test_garbage_ends_that_connection_alone(busy: Busy, said: bytes) -> None:
    with dial(busy.listening.place) as connection:
        connection.sendall(said)
        place = address_of(connection)
        assert ended(connection)
    busy.newest_warning(f"{place} does not speak TLS here|the TLS connection with {place} failed: unexpected message")
    assert busy.goes_on()


def address_of(connection: socket.socket) -> str:
    """The connection's own address as a pattern: how the log names the peer."""
    return re.escape(f"127.0.0.1:{connection.getsockname()[1]}")


def client_hello() -> bytes:
    """The first message of a real handshake."""
    client = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(10_000)


def test_a_truncated_handshake_ends_that_connection_alone(busy: Busy) -> None:
    with dial(busy.listening.place) as connection:
        connection.sendall(client_hello()[:50])
        connection.shutdown(socket.SHUT_WR)
        place = address_of(connection)
        assert ended(connection)
    busy.newest_warning(f"{place} closed the connection during the TLS handshake; its log says why")
    assert busy.goes_on()


@pytest.mark.parametrize("sent", [0, 50, None], ids=["nothing", "a part", "a whole message"])
def test_a_slow_handshake_ends_that_connection_alone(busy: Busy, sent: int | None) -> None:
    with dial(busy.listening.place) as connection:
        connection.sendall(client_hello()[:sent])
        place = address_of(connection)
        assert busy.goes_on()
        assert ended(connection)
    busy.newest_warning(rf"{place} did not finish the TLS handshake within 2 s")
    assert busy.goes_on()


def test_a_reset_during_the_handshake_ends_that_connection_alone(busy: Busy) -> None:
    with dial(busy.listening.place) as connection:
        connection.sendall(client_hello()[:50])
        place = address_of(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    busy.newest_warning(f"{place} (broke|closed) the connection.* during the TLS handshake|a peer that has gone")
    assert busy.goes_on()


# Certificates.


def context_with(certificate: crypto.X509 | x509.Certificate | None, key: object = None) -> SSL.Context:
    """A client that trusts everyone and shows this certificate."""
    context = SSL.Context(SSL.TLS_METHOD)
    if certificate is not None:
        context.use_certificate(certificate)
        assert isinstance(key, crypto.PKey)
        context.use_privatekey(key)
    return context


def connection_ends_with(place: Place, context: SSL.Context) -> bool:
    """Whether a connection ends with an error, in the handshake or when it is first read."""
    with dial(place) as transport:
        transport.setblocking(True)
        client = SSL.Connection(context, transport)
        client.set_connect_state()
        try:
            client.do_handshake()
            client.recv(1)
        except SSL.Error:
            return True
    return False


def with_names_twice() -> tuple[crypto.X509, crypto.PKey]:
    """A certificate with two extensions of alternative names, which X.509 forbids; only OpenSSL's own types take it."""
    key = elliptic_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NODE1)])
    names = x509.SubjectAlternativeName([x509.DNSName(NODE1)])
    twin = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), names.public_bytes())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    )
    builder = builder.add_extension(names, critical=False).add_extension(twin, critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    changed = der.replace(bytes([0x55, 0x1D, 99]), bytes([0x55, 0x1D, 17]))
    return crypto.load_certificate(crypto.FILETYPE_ASN1, changed), crypto.PKey.from_cryptography_key(key)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* is deprecated")
def test_a_certificate_that_breaks_the_rules_ends_that_connection_alone(busy_verifying: Busy) -> None:
    assert connection_ends_with(busy_verifying.listening.place, context_with(*with_names_twice()))
    busy_verifying.newest_warning("presented CN=node1.my.cluster, which can't be trusted")
    assert busy_verifying.goes_on()


def test_no_certificate_ends_that_connection_alone(busy_verifying: Busy) -> None:
    assert connection_ends_with(busy_verifying.listening.place, context_with(None))
    busy_verifying.newest_warning("presented no certificate; both sides must present one")
    assert busy_verifying.goes_on()


@needs("openssl")
@pytest.mark.parametrize(
    ("shown", "reason", "alert"),
    [
        (expired(CA, NODE1), "it has expired; renew it", b"alert certificate expired"),
        (self_signed(NODE1), "it is self-signed and not in our CA file; add it there", b"alert unknown ca"),
        (issued(authority("Other"), NODE1), "its issuer is not in our CA file", b"alert unknown ca"),
    ],
    ids=["expired", "stranger", "other CA"],
)
def test_listen_and_openssl_s_client_say_why_a_certificate_is_refused(
    tmp_path: Path, shown: Identity, reason: str, alert: bytes
) -> None:
    server = settings_of(tmp_path / "server", issued(CA, NODE2), [CA])
    client = settings_of(tmp_path / "client", shown, [CA])
    with tunnel("listen", server, "127.0.0.1:0", "exec:cat") as listening:
        # Its input stays open: it must not leave before it has read what we say.
        with subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{listening.port}", "-cert", str(client.certificate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as peer:
            assert peer.stderr is not None
            said = peer.stderr.read()
            peer.wait(LIMIT)
        listening.wait_for(rf"WARNING 127\.0\.0\.1:\d+ -> exec:cat: \S+ presented CN={NODE1}, .*{reason}")
        assert len(listening.warnings()) == 1
    assert alert in said


@needs("openssl")
def test_connect_says_why_it_refuses_an_expired_server(tmp_path: Path) -> None:
    server = settings_of(tmp_path / "server", expired(CA, NODE2), [CA])
    client = settings_of(tmp_path / "client", issued(CA, NODE1), [CA])
    port = free_port("127.0.0.1")
    command = ["openssl", "s_server", "-quiet", "-naccept", "1", "-accept", f"127.0.0.1:{port}"]
    command += ["-cert", str(server.certificate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as peer:
        try:
            options = ("--peer-name", NODE2, "--sockopt", "retry=100,interval=0.05")
            with tunnel("connect", client, "127.0.0.1:0", f"127.0.0.1:{port}", *options) as connecting:
                with dial(connecting.port) as plain, pytest.raises(ConnectionResetError):
                    plain.recv(1)
                reason = "which can't be trusted: it has expired; renew it"
                connecting.wait_for(rf"WARNING .* 127\.0\.0\.1:{port} presented CN={NODE2}, {reason}")
            assert peer.stderr is not None
            assert b"alert certificate expired" in peer.stderr.read()
        finally:
            peer.kill()


def both_say(
    listen: TlsSettings, connect: TlsSettings, *options: str, listen_options: tuple[str, ...] = ()
) -> list[str]:
    """The one warning of `listen`, and the one of `connect`, without the places in front of them."""
    with tunnel("listen", listen, "127.0.0.1:0", "exec:cat", *listen_options) as listening:
        words = options or ("--peer-name", NODE2)
        with tunnel("connect", connect, "127.0.0.1:0", f"127.0.0.1:{listening.port}", *words) as connecting:
            with dial(connecting.port) as plain, suppress(ConnectionError):
                plain.sendall(b"who is there?")
                assert plain.recv(100) is None, "neither data nor an end of file may come"
            connecting.wait_for("WARNING")
            listening.wait_for("WARNING")
    assert (len(listening.warnings()), len(connecting.warnings())) == (1, 1)
    return [re.sub(r"127\.0\.0\.1:\d+ -> \S+: ", "", program.warnings()[0]) for program in (listening, connecting)]


@pytest.fixture
def good(tmp_path: Path) -> tuple[TlsSettings, TlsSettings]:
    """Settings of a server and a client that trust each other."""
    return (
        settings_of(tmp_path / "server", issued(CA, NODE2), [CA]),
        settings_of(tmp_path / "client", issued(CA, NODE1), [CA]),
    )


def test_both_ends_say_that_the_server_has_another_name(good: tuple[TlsSettings, TlsSettings]) -> None:
    at_server, at_client = both_say(*good, "--peer-name", "node7")
    assert re.fullmatch(
        r"127\.0\.0\.1:\d+ presented CN=node2\.my\.cluster, expected node7 \(certificate from /CN=Authority, "
        r"valid until \d{4}-\d\d-\d\d\); give --peer-name \(sockopt: commonname=\) if that is meant",
        at_client,
    )
    assert re.fullmatch(
        r"127\.0\.0\.1:\d+ did not accept our certificate, perhaps its name \(.*\); its log says why", at_server
    )


def test_both_ends_say_that_the_client_has_another_name(good: tuple[TlsSettings, TlsSettings]) -> None:
    at_server, at_client = both_say(*good, listen_options=("--peer-name", "node7"))
    assert re.match(r"127\.0\.0\.1:\d+ presented CN=node1\.my\.cluster, expected node7 \(", at_server)
    assert re.match(r"127\.0\.0\.1:\d+ did not accept our certificate, perhaps its name \(", at_client)


def test_both_ends_say_that_the_server_s_ca_is_unknown(good: tuple[TlsSettings, TlsSettings], tmp_path: Path) -> None:
    stranger = settings_of(tmp_path / "stranger", issued(authority("Other"), NODE2), [CA])
    at_server, at_client = both_say(stranger, good[1])
    assert re.search(
        r"presented CN=node2\.my\.cluster, which can't be trusted: its issuer is not in our CA file", at_client
    )
    assert re.search(r"did not accept our certificate \(.*unknown ca\); its log says why", at_server)


def test_both_ends_say_that_the_client_s_ca_is_unknown(good: tuple[TlsSettings, TlsSettings], tmp_path: Path) -> None:
    stranger = settings_of(tmp_path / "stranger", issued(authority("Other"), NODE1), [CA])
    at_server, at_client = both_say(good[0], stranger)
    assert re.search(
        r"presented CN=node1\.my\.cluster, which can't be trusted: its issuer is not in our CA file", at_server
    )
    assert re.search(r"did not accept our certificate \(.*unknown ca\); its log says why", at_client)


def test_a_server_that_speaks_plain_is_told_apart(good: tuple[TlsSettings, TlsSettings]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
        words = ("--peer-name", NODE2)
        with tunnel("connect", good[1], "127.0.0.1:0", f"127.0.0.1:{port}", *words) as connecting:
            with dial(connecting.port) as client:
                server, _ = plain.accept()
                server.sendall(b"5.5.5-10.11.6-MariaDB\0\0\0\0\0\0\0")
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                server.close()
            connecting.wait_for(
                rf"WARNING .*127\.0\.0\.1:{port} does not speak TLS here \(.*\); is it the right port\?"
            )
