"""The outer TLS of wss://: which CAs are trusted, and what is said of servers that show no proof from them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from lab.certificates import Identity, authority, issued, self_signed
from pytunnel.transport import outer, places
from pytunnel.transport.endpoint import TcpEndpoint, parse_endpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions, WebSocketOptions
from tests.support.concurrency import in_trio

CA = authority("Edge CA")
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
LONG_AGO = YESTERDAY - timedelta(days=30)


@contextmanager
def server(folder: Path, own: Identity, versions: ssl.TLSVersion | None = None) -> Iterator[int]:
    """A TLS server that ends each connection after its handshake; its port."""
    pem = folder / "server.pem"
    pem.write_bytes(own.combined_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if versions is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = versions
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError), listener.accept()[0] as accepted, context.wrap_socket(accepted, server_side=True):
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(20)


def ca_file(folder: Path, *identities: Identity) -> Path:
    path = folder / "ca.pem"
    path.write_bytes(b"".join(identity.certificate_pem() for identity in identities))
    return path


async def secure(port: int, ca: Path | None, host: str = "localhost") -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await outer.secure(stream, TcpEndpoint(host, port), outer.make_context(ca))


async def refusal(port: int, ca: Path | None, host: str = "localhost") -> str:
    with pytest.raises(TransportError) as caught:
        await secure(port, ca, host)
    return str(caught.value)


@in_trio
async def test_a_server_with_a_name_from_the_given_ca_is_trusted(tmp_path: Path) -> None:
    with server(tmp_path, issued(CA, "edge", names=["localhost"])) as port:
        await secure(port, ca_file(tmp_path, CA))


@in_trio
async def test_an_address_counts_as_a_name(tmp_path: Path) -> None:
    with server(tmp_path, issued(CA, "edge", addresses=["127.0.0.1"])) as port:
        await secure(port, ca_file(tmp_path, CA), "127.0.0.1")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (issued(authority("Another CA"), "localhost", names=["localhost"]), "unable to get local issuer certificate"),
        (self_signed("localhost"), "self-signed certificate"),
        (issued(CA, "localhost", names=["localhost"], start=LONG_AGO, end=YESTERDAY), "certificate has expired"),
        (issued(CA, "localhost", names=["other.example"]), "Hostname mismatch"),
        (issued(CA, "localhost"), "Hostname mismatch"),  # a common name alone is no name for the web
    ],
)
@in_trio
async def test_any_other_server_is_refused(tmp_path: Path, own: Identity, said: str) -> None:
    with server(tmp_path, own) as port:
        failure = await refusal(port, ca_file(tmp_path, CA))
        assert failure.startswith(f"localhost:{port} presented a certificate that can't be trusted: ")
        assert said in failure


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@in_trio
async def test_a_certificate_of_another_name_is_told_by_the_name_alone(tmp_path: Path, host: str) -> None:
    with server(tmp_path, issued(CA, "localhost", names=["other.example"])) as port:
        failure = await refusal(port, ca_file(tmp_path, CA), host)
    assert failure.endswith(f"not valid for '{host}'; write a name that its certificate carries in the URL")


@in_trio
async def test_without_a_file_the_system_s_cas_count(tmp_path: Path) -> None:
    with server(tmp_path, issued(CA, "localhost", names=["localhost"])) as port:
        assert "--outer-ca" in await refusal(port, None)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")  # of the version that is tried
@in_trio
async def test_old_versions_of_tls_are_refused(tmp_path: Path) -> None:
    with server(tmp_path, issued(CA, "localhost", names=["localhost"]), ssl.TLSVersion.TLSv1_1) as port:
        assert "the outer TLS with" in await refusal(port, ca_file(tmp_path, CA))


@in_trio
async def test_a_server_that_speaks_no_tls_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as accepted:
                accepted.recv(100)
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                accepted.recv(10_000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert "is it the port of a wss:// server" in await refusal(listener.getsockname()[1], None)
        thread.join(20)


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_ca_file_that_can_t_be_used_is_found_before_dialling(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    options = SocketOptions(web=WebSocketOptions(outer_ca=path))
    with pytest.raises(TransportError, match=r"--outer-ca .*ca.pem can't be read"):
        places.check_dialling(parse_endpoint("wss://edge.example/"), options)


@in_trio
async def test_a_ca_file_that_was_renewed_counts_at_once(tmp_path: Path) -> None:
    path = ca_file(tmp_path, authority("Another CA"))
    own = issued(CA, "localhost", names=["localhost"])
    with server(tmp_path, own) as port:
        await refusal(port, path)
    with server(tmp_path, own) as port:
        await secure(port, ca_file(tmp_path, authority("Another CA"), CA))


def test_the_ca_file_is_read_once_for_many_connections(tmp_path: Path) -> None:
    path = ca_file(tmp_path, CA)
    assert outer.make_context(path) is outer.make_context(path)
