"""`pytunnel connect --http-connect`: a program names its target, and is carried there if it may be."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.certificates import self_signed
from lab.ports import free_port
from lab.processes import mentioning
from lab.waiting import comes_true
from pytunnel.tls.settings import TlsSettings
from tests.support.credentials import settings_of
from tests.support.plain import dial, digest, digest_after_end, echo, read_all, serving, some_data
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, Program, credentials, pytunnel, started, tunnel

LOCALHOST = "localhost"
"""The only name that leads to this host everywhere: the listening end has a certificate for it."""


class Site:
    """A `listen` with a certificate for localhost, and gateways of a client that trusts it."""

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        client, server = self_signed("client.my.cluster"), self_signed(LOCALHOST)
        self.client = settings_of(folder / "client", client, [client, server])
        self.server = settings_of(folder / "server", server, [client, server])
        self._cleanup = cleanup

    def listen(self, target: str, settings: TlsSettings | None = None) -> int:
        """The port of a `listen` that leads to `target`."""
        listening = tunnel("listen", settings or self.server, "127.0.0.1:0", target)
        return self._cleanup.enter_context(listening).port

    def gateway(self, *options: str, allowed: str) -> Program:
        """A running gateway that lets clients ask for the `allowed` target."""
        words = ["--http-connect", "127.0.0.1:0", "--allow-target", allowed, *options]
        program = self._cleanup.enter_context(started(pytunnel("connect", *credentials(self.client), *words)))
        program.wait_for("accepting ")
        return program


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as cleanup:
        yield Site(tmp_path, cleanup)
    assert comes_true(lambda: not mentioning(tmp_path), LIMIT), mentioning(tmp_path)


@pytest.fixture
def echoing() -> Iterator[str]:
    with serving(echo) as port:
        yield f"127.0.0.1:{port}"


def asked(gateway: Program, request: bytes) -> tuple[bytes, socket.socket]:
    """The head of the answer to a request, and the connection behind it."""
    connection = dial(gateway.port)
    connection.sendall(request)
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, f"ended behind {head!r}"
        head += piece
    return bytes(head), connection


def connect_to(target: str) -> bytes:
    """A request as rsync writes it."""
    return f"CONNECT {target} HTTP/1.0\r\n\r\n".encode()


def status(gateway: Program, request: bytes) -> bytes:
    """The first line of the answer, when the connection was then ended in order and without a byte more."""
    head, connection = asked(gateway, request)
    with connection:
        assert connection.recv(1) == b""
    return head.partition(b"\r\n")[0]


# What is allowed is carried.


def test_an_allowed_target_is_reached_and_bytes_go_both_ways(site: Site) -> None:
    with serving(digest_after_end) as behind:
        port = site.listen(f"127.0.0.1:{behind}")
        gateway = site.gateway(allowed=f"{LOCALHOST}:{port}")
        head, connection = asked(gateway, connect_to(f"{LOCALHOST}:{port}"))
        assert head.startswith(b"HTTP/1.1 200 ")
        data = some_data(3_000_000)
        with connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection).decode() == digest(data)
    gateway.wait_for(rf"INFO 127\S+ -> localhost:{port} ended: 3000000 bytes out, 64 in, .* with CN=localhost")


def test_bytes_sent_right_behind_the_request_are_carried_too(site: Site, echoing: str) -> None:
    port = site.listen(echoing)
    gateway = site.gateway(allowed=f"{LOCALHOST}:{port}")
    head, connection = asked(gateway, connect_to(f"{LOCALHOST}:{port}") + b"early")
    assert head.startswith(b"HTTP/1.1 200 ")
    with connection:
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"early"


def test_headers_of_the_request_change_nothing(site: Site, echoing: str) -> None:
    port = site.listen(echoing)
    gateway = site.gateway(allowed=f"{LOCALHOST}:{port}")
    request = f"CONNECT {LOCALHOST}:{port} HTTP/1.1\r\nHost: other.example:1\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
    head, connection = asked(gateway, request.encode())
    with connection:
        assert head.startswith(b"HTTP/1.1 200 ")


def test_targets_may_have_their_pytunnel_at_another_port(site: Site, echoing: str) -> None:
    port = site.listen(echoing)
    gateway = site.gateway("--target-port", str(port), allowed=f"{LOCALHOST}:4444")
    head, connection = asked(gateway, connect_to(f"{LOCALHOST}:4444"))
    with connection:
        assert head.startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"


@needs("rsync")
def test_rsync_is_carried_to_the_daemon_that_it_names(site: Site, tmp_path: Path) -> None:
    source, received = tmp_path / "source", tmp_path / "received"
    for folder in (source, received):
        folder.mkdir()
    (source / "data").write_bytes(some_data(1_000_000))
    configuration = tmp_path / "rsyncd.conf"
    configuration.write_text(
        f"use chroot = no\nuid = {os.geteuid()}\ngid = {os.getegid()}\n[m]\npath = {received}\nread only = no\n"
    )
    port = site.listen(f"exec:rsync --server --daemon --config={configuration} .")
    gateway = site.gateway(allowed=f"{LOCALHOST}:{port}")
    environment = {"RSYNC_PROXY": f"127.0.0.1:{gateway.port}", "PATH": "/usr/bin:/bin"}
    words = ["rsync", "-r", f"{source}/", f"rsync://{LOCALHOST}:{port}/m"]
    subprocess.run(words, env=environment, check=True, timeout=LIMIT)
    assert (received / "data").read_bytes() == (source / "data").read_bytes()


@needs("rsync")
def test_rsync_tells_its_user_why_it_was_refused(site: Site, tmp_path: Path) -> None:
    gateway = site.gateway(allowed="*.my.cluster:4444")
    environment = {"RSYNC_PROXY": f"127.0.0.1:{gateway.port}", "PATH": "/usr/bin:/bin"}
    words = ["rsync", "-r", f"{tmp_path}/", "rsync://elsewhere.example:4444/m"]
    refused = subprocess.run(words, env=environment, stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
    assert refused.returncode != 0
    assert "403 elsewhere.example:4444 is not an allowed target" in refused.stderr


# What is not allowed is refused, and nothing is dialled.


@pytest.mark.parametrize("target", ["localhost:{other}", "127.0.0.1:{port}", "a.localhost:{port}", "[::1]:{port}"])
def test_a_target_that_is_not_allowed_is_refused_and_logged(site: Site, target: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        place.setblocking(False)
        port = place.getsockname()[1]
        gateway = site.gateway(allowed=f"{LOCALHOST}:{port}")
        asked_for = target.format(port=port, other=port - 1)
        assert status(gateway, connect_to(asked_for)) == f"HTTP/1.1 403 {asked_for} is not an allowed target".encode()
        line = gateway.wait_for(r"WARNING .* -> .* refused; allowed are .*")[0]
        assert f" -> {asked_for}: refused; allowed are {LOCALHOST}:{port} (--allow-target)" in line
        with pytest.raises(BlockingIOError):
            place.accept()


def test_a_target_that_answers_with_another_name_gets_no_byte(site: Site, tmp_path: Path) -> None:
    ours = [self_signed("client.my.cluster"), self_signed("evil.my.cluster")]
    impostor = settings_of(tmp_path / "impostor", ours[1], [])
    both = tmp_path / "client" / "ca.pem"
    both.write_bytes(both.read_bytes() + ours[1].certificate_pem())
    reached: list[bytes] = []
    with serving(lambda connection: reached.append(read_all(connection))) as behind:
        shutil.copy(site.server.ca or "", impostor.ca or "")
        port = site.listen(f"127.0.0.1:{behind}", impostor)
        gateway = site.gateway(allowed=f"{LOCALHOST}:{port}")
        answer = status(gateway, connect_to(f"{LOCALHOST}:{port}"))
    assert answer.startswith(b"HTTP/1.1 502 ")
    gateway.wait_for("WARNING .* presented CN=evil.my.cluster, expected localhost ")
    assert reached == []


def test_a_target_that_cannot_be_reached_is_a_bad_gateway(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    gateway = site.gateway(allowed=f"{LOCALHOST}:{port}")
    assert status(gateway, connect_to(f"{LOCALHOST}:{port}")).startswith(b"HTTP/1.1 502 ")
    gateway.wait_for(rf"WARNING .*localhost:{port} can't be reached")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 405 "),
        (b"CONNECT localhost HTTP/1.0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"CONNECT unix:/run/db.sock HTTP/1.0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"CONNECT :4444 HTTP/1.0\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.1 400 "),
        (b"CONNECT localhost:1 HTTP/1.0\r\nX: " + 20_000 * b"x", b"HTTP/1.1 431 "),
    ],
    ids=["another method", "no port", "a path", "no host", "TLS", "endless"],
)
def test_what_is_no_request_for_a_target_is_answered_so(site: Site, request_: bytes, answer: bytes) -> None:
    gateway = site.gateway(allowed="*.my.cluster:4444")
    assert status(gateway, request_).startswith(answer)
    assert gateway.process.poll() is None


def test_a_client_that_asks_for_nothing_is_not_waited_for(site: Site) -> None:
    gateway = site.gateway("--handshake-timeout", "0.5", allowed="*.my.cluster:4444")
    assert status(gateway, b"CONNECT ").startswith(b"HTTP/1.1 408 ")
    gateway.wait_for("no HTTP CONNECT came within 0.5 s")


@pytest.mark.parametrize("end", [lambda client: client.shutdown(socket.SHUT_WR), lambda client: None])
def test_a_client_that_leaves_harms_nobody(site: Site, echoing: str, end: Callable[[socket.socket], None]) -> None:
    port = site.listen(echoing)
    gateway = site.gateway(allowed=f"{LOCALHOST}:{port}")
    with dial(gateway.port) as client:
        client.sendall(b"CONNECT loc")
        end(client)
    gateway.wait_for("WARNING ")
    head, connection = asked(gateway, connect_to(f"{LOCALHOST}:{port}"))
    with connection:
        assert head.startswith(b"HTTP/1.1 200 ")


def test_a_tunnel_whose_plain_side_others_can_reach_is_warned_of(site: Site) -> None:
    with started(pytunnel("connect", *credentials(site.client), f":{free_port('127.0.0.1')}", "localhost:9")) as tunnel:
        for address in (r"0\.0\.0\.0", r"\[::\]"):
            tunnel.wait_for(rf"WARNING {address}:\d+ can be reached from other hosts: .* use our certificate")


def test_a_gateway_that_others_can_reach_is_warned_of(site: Site) -> None:
    words = ["--http-connect", "0.0.0.0:0", "--allow-target", "*.my.cluster:4444"]
    with started(pytunnel("connect", *credentials(site.client), *words)) as gateway:
        gateway.wait_for(r"WARNING 0\.0\.0\.0:\d+ can be reached from other hosts: .* use our certificate")
