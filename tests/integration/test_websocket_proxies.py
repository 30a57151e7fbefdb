"""Tunnels inside WebSockets through real proxies: nginx and haproxy in front of a node, tinyproxy on the way out."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from filecmp import cmpfiles
from pathlib import Path

import pytest

from lab.certificates import Identity, authority, issued, self_signed
from lab.ports import free_port
from pytunnel.transport.endpoint import TcpEndpoint
from tests.support.credentials import settings_of
from tests.support.ends import NODE1, NODE2, Ends
from tests.support.plain import dial, digest, digest_after_end, echo, read_all, serving, some_data, talk
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, Program, tunnel
from tests.support.webproxies import EDGES, HOST, Edge, edge, forward_proxy

_IDLE = 65  # seconds
PATH = f"/sst/{NODE2}"
TOKEN = "Bearer hunter2"  # noqa: S105 - what must not be seen


class Web:
    """A certificate for the edge from a CA of its own, and what a `connect` needs to get through the edge."""

    def __init__(self, folder: Path) -> None:
        ca = authority("Edge CA")
        self.own = issued(ca, HOST, names=[HOST])
        self.other_own = issued(ca, "other.example", names=["other.example"])
        self._ca_file = folder / "edge-ca.pem"
        self._ca_file.write_bytes(ca.certificate_pem())
        self.folder = folder

    @property
    def options(self) -> tuple[str, str]:
        return "--outer-ca", str(self._ca_file)

    def edge(self, program: str, node: int, *, own: Identity | None = None, more: str = "") -> Edge:
        """A running edge that leads PATH to the node's port; it ends with the test."""
        folder = self.folder / f"{program}-{free_port('127.0.0.1')}"
        place = TcpEndpoint("127.0.0.1", node)
        return self.cleanup.enter_context(edge(program, folder, own or self.own, PATH, place, more=more))

    cleanup: ExitStack


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path)
    with ExitStack() as made.cleanup:
        yield made


def listening(ends: Ends, target: str, *options: str, path: str = PATH) -> Program:
    return ends.listen(target, *options, source=f"ws://127.0.0.1:0{path}")


def complaint(program: Program, text: str) -> str:
    """The warning of a tunnel that holds `text`."""
    return program.wait_for(f"WARNING .*{text}.*")[0]


# What goes through.


@pytest.mark.parametrize("program", EDGES)
@needs("rsync")
def test_rsync_copies_a_directory(ends: Ends, web: Web, tmp_path: Path, program: str) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    (source / "deeper").mkdir(parents=True)
    copy.mkdir()
    for number in range(20):
        (source / "deeper" / f"table{number}.ibd").write_bytes(some_data(500_000, number))
    (copy / "dropped.ibd").write_bytes(b"must go")
    own_user = "uid = 0\ngid = 0\n" if os.geteuid() == 0 else ""
    (tmp_path / "rsyncd.conf").write_text(f"use chroot = no\n[data]\npath = {copy}\nread only = no\n{own_user}")
    node = listening(ends, f"exec:rsync --daemon --config={tmp_path}/rsyncd.conf")
    entrance = ends.connect(web.edge(program, node.port).url(PATH), *web.options).port
    subprocess.run(
        ["rsync", "-a", "--delete", "--timeout=20", f"{source}/", f"rsync://127.0.0.1:{entrance}/data/"],
        check=True,
        timeout=60,
    )
    assert {path.name for path in copy.iterdir()} == {"deeper"}
    names = [f"table{number}.ibd" for number in range(20)]
    assert cmpfiles(source / "deeper", copy / "deeper", names, shallow=False) == (names, [], [])


@pytest.mark.parametrize("program", EDGES)
def test_an_end_of_file_passes_and_the_answer_comes_after_it(ends: Ends, web: Web, program: str) -> None:
    data = some_data(5_000_000)
    with serving(digest_after_end) as port:
        node = listening(ends, f"127.0.0.1:{port}")
        entrance = ends.connect(web.edge(program, node.port).url(PATH), *web.options).port
        assert talk(entrance, data).decode() == digest(data)


@pytest.mark.parametrize("program", EDGES)
def test_much_goes_both_ways_at_once_in_many_connections(ends: Ends, web: Web, program: str) -> None:
    contents = [some_data(2_000_000, seed) for seed in range(5)]
    answers: dict[int, str] = {}
    with serving(echo) as port:
        node = listening(ends, f"127.0.0.1:{port}")
        entrance = ends.connect(web.edge(program, node.port).url(PATH), *web.options).port

        def carry(number: int) -> None:
            answers[number] = digest(talk(entrance, contents[number]))

        threads = [threading.Thread(target=carry, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert answers == {number: digest(data) for number, data in enumerate(contents)}


@needs("nginx", "haproxy")
def test_idle_connections_outlive_the_usual_time_outs_of_proxies(ends: Ends, web: Web) -> None:
    """nginx ends an idle one after 60 s, haproxy after 50: there is no other way to see than to wait so long."""

    def patient_echo(connection: socket.socket) -> None:
        connection.settimeout(_IDLE + LIMIT)
        echo(connection)

    with serving(patient_echo) as port, ExitStack() as clients:
        node = listening(ends, f"127.0.0.1:{port}")
        opened = []
        for program in ("nginx", "haproxy"):
            entrance = ends.connect(web.edge(program, node.port).url(PATH), *web.options).port
            opened.append(clients.enter_context(dial(entrance)))
            opened[-1].sendall(b"before")
            assert opened[-1].recv(100) == b"before"
        time.sleep(_IDLE)
        for client in opened:
            client.sendall(b"after")
            assert client.recv(100) == b"after"


@needs("nginx")
def test_between_proxy_and_node_there_is_ciphertext_only(ends: Ends, web: Web) -> None:
    seen = bytearray()

    def record(connection: socket.socket) -> None:
        with dial(node.port) as onward:

            def back() -> None:
                while data := onward.recv(65536):
                    connection.sendall(data)

            returning = threading.Thread(target=back, daemon=True)
            returning.start()
            while data := connection.recv(65536):
                seen.extend(data)
                onward.sendall(data)
            onward.shutdown(socket.SHUT_WR)
            returning.join(20)

    secret = b"the quick brown fox" * 100
    with serving(digest_after_end) as port:
        node = listening(ends, f"127.0.0.1:{port}")
        with serving(record) as between:
            entrance = ends.connect(web.edge("nginx", between).url(PATH), *web.options).port
            assert talk(entrance, secret).decode() == digest(secret)
    assert f"GET {PATH} HTTP/1.1".encode() in seen
    assert len(seen) > len(secret)
    assert b"brown fox" not in _unmasked(bytes(seen.partition(b"\r\n\r\n")[2]))


def _unmasked(frames: bytes) -> bytes:
    """What the client's messages hold, read here without the library that wrote them."""
    content = bytearray()
    while frames:
        length, rest = frames[1] & 0x7F, frames[2:]
        assert frames[1] & 0x80, "a client masks"
        extended = {126: 2, 127: 8}.get(length, 0)
        length = int.from_bytes(rest[:extended]) if extended else length
        mask, rest = rest[extended : extended + 4], rest[extended + 4 :]
        content += bytes(byte ^ mask[place % 4] for place, byte in enumerate(rest[:length]))
        frames = rest[length:]
    return bytes(content)


def test_no_proxy_is_needed_between_the_nodes(ends: Ends) -> None:
    data = some_data(5_000_000)
    with serving(echo) as port:
        node = listening(ends, f"127.0.0.1:{port}")
        entrance = ends.connect(f"ws://127.0.0.1:{node.port}{PATH}").port
        assert digest(talk(entrance, data)) == digest(data)


def test_several_workers_share_the_web_sockets(ends: Ends) -> None:
    data = some_data(1_000_000)
    with serving(echo) as port:
        node = listening(ends, f"127.0.0.1:{port}", "--workers", "2")
        entrance = ends.connect(f"ws://127.0.0.1:{node.port}{PATH}", "--workers", "2").port
        assert [digest(talk(entrance, data)) for _ in range(6)] == 6 * [digest(data)]


# Who is trusted.


@pytest.mark.parametrize("program", EDGES)
def test_the_proxy_s_certificate_must_be_from_a_trusted_ca(ends: Ends, web: Web, program: str) -> None:
    node = listening(ends, "127.0.0.1:1")
    connecting = ends.connect(web.edge(program, node.port).url(PATH))
    assert talk_to_nobody(connecting)
    assert "--outer-ca" in complaint(connecting, "a certificate that can't be trusted: ")


def test_the_proxy_s_certificate_must_carry_the_url_s_host(ends: Ends, web: Web) -> None:
    node = listening(ends, "127.0.0.1:1")
    connecting = ends.connect(web.edge("haproxy", node.port, own=web.other_own).url(PATH), *web.options)
    assert talk_to_nobody(connecting)
    assert HOST in complaint(connecting, "can't be trusted: Hostname mismatch")


@pytest.mark.parametrize("program", EDGES)
def test_another_node_behind_the_proxy_is_refused(web: Web, tmp_path: Path, program: str) -> None:
    one, evil = self_signed(NODE1), self_signed("evil.my.cluster")
    settings = [settings_of(tmp_path / name, own, [one, evil]) for name, own in (("one", one), ("evil", evil))]
    with tunnel("listen", settings[1], f"ws://127.0.0.1:0{PATH}", "127.0.0.1:1") as node:
        url = web.edge(program, node.port).url(PATH)
        with tunnel("connect", settings[0], "127.0.0.1:0", url, "--peer-name", NODE2, *web.options) as connecting:
            assert talk_to_nobody(connecting)
            complaint(connecting, f"presented CN=evil.my.cluster, expected {NODE2}")


def talk_to_nobody(entrance: Program) -> bool:
    """Whether a connection is ended by a reset, without a byte."""
    with dial(entrance.port) as client:
        try:
            read_all(client)
        except ConnectionResetError:
            return True
    return False


# What a proxy or a node refuses.


@pytest.mark.parametrize("program", EDGES)
@pytest.mark.parametrize(
    ("path", "host", "answer"),
    [
        ("/other", None, "404 Not Found to the WebSocket request for /other; is the path right"),
        (PATH, "other.example", f"421 Misdirected Request to the WebSocket request for {PATH}"),
    ],
)
def test_a_path_or_a_host_that_the_proxy_does_not_serve_is_named(
    ends: Ends, web: Web, program: str, path: str, host: str | None, answer: str
) -> None:
    node = listening(ends, "127.0.0.1:1")
    header = ("--header", f"Host: {host}") if host else ()
    serving_edge = web.edge(program, node.port)
    connecting = ends.connect(serving_edge.url(path), *web.options, *header)
    assert talk_to_nobody(connecting)
    complaint(connecting, f"{HOST}:{serving_edge.port} answered {answer}")


@pytest.mark.parametrize("program", EDGES)
def test_a_node_that_is_down_is_named_by_the_proxy_s_answer(ends: Ends, web: Web, program: str) -> None:
    connecting = ends.connect(web.edge(program, free_port("127.0.0.1")).url(PATH), *web.options)
    assert talk_to_nobody(connecting)
    complaint(connecting, "answered 50[23] .*; it can't reach the node behind it")


@pytest.mark.parametrize(
    ("program", "demand"),
    [
        pytest.param("nginx", f'if ($http_authorization != "{TOKEN}") {{ return 403; }}', marks=needs("nginx")),
        pytest.param(
            "haproxy",
            f'http-request deny deny_status 403 unless {{ req.hdr(authorization) -m str "{TOKEN}" }}',
            marks=needs("haproxy"),
        ),
    ],
)
def test_a_token_opens_the_proxy_and_is_seen_nowhere(
    ends: Ends, web: Web, tmp_path: Path, program: str, demand: str
) -> None:
    with serving(echo) as port:
        node = listening(ends, f"127.0.0.1:{port}")
        url = web.edge(program, node.port, more=demand).url(PATH)
        without = ends.connect(url, *web.options)
        assert talk_to_nobody(without)
        complaint(without, "answered 403 Forbidden to the WebSocket request for .*; does it want a token")
        file = tmp_path / "token.toml"
        file.write_text(f'header = ["Authorization: {TOKEN}"]')
        from_file = ends.connect(url, *web.options, "--config", str(file))
        assert talk(from_file.port, b"hello") == b"hello"
        with tunnel(
            "connect", ends.node1, "127.0.0.1:0", url, *web.options, "--peer-name", NODE2,
            environment={"PYTUNNEL_HEADER": f"Authorization: {TOKEN}"},
        ) as from_environment:  # fmt: skip
            assert talk(from_environment.port, b"hello") == b"hello"
            words = Path(f"/proc/{from_environment.process.pid}/cmdline").read_bytes()
            lines = [*from_environment.lines, *from_file.lines, *node.lines]
    assert b"hunter2" not in words
    assert not [line for line in lines if "hunter2" in line]


# HTTP proxies on the way out.


@needs("tinyproxy")
def test_plain_tls_goes_through_an_http_proxy(ends: Ends, tmp_path: Path) -> None:
    data = some_data(3_000_000)
    with serving(digest_after_end) as port:
        node = ends.listen(f"127.0.0.1:{port}")
        with forward_proxy(tmp_path / "proxy", [node.port]) as proxy:
            entrance = ends.connect(f"127.0.0.1:{node.port}", "--proxy", f"http://127.0.0.1:{proxy}").port
            assert talk(entrance, data).decode() == digest(data)
        assert f"CONNECT 127.0.0.1:{node.port}" in (tmp_path / "proxy" / "log").read_text()


@needs("tinyproxy", "nginx")
def test_a_web_socket_goes_through_an_http_proxy_to_the_edge(ends: Ends, web: Web, tmp_path: Path) -> None:
    data = some_data(3_000_000)
    with serving(digest_after_end) as port:
        outer = web.edge("nginx", listening(ends, f"127.0.0.1:{port}").port)
        with forward_proxy(tmp_path / "proxy", [outer.port]) as proxy:
            entrance = ends.connect(outer.url(PATH), *web.options, "--proxy", f"http://127.0.0.1:{proxy}").port
            assert talk(entrance, data).decode() == digest(data)


@needs("tinyproxy")
def test_what_an_http_proxy_forbids_is_named(ends: Ends, tmp_path: Path) -> None:
    with forward_proxy(tmp_path / "proxy", [1]) as proxy:
        connecting = ends.connect("127.0.0.1:4444", "--proxy", f"http://127.0.0.1:{proxy}")
        assert talk_to_nobody(connecting)
        complaint(connecting, f"the proxy 127.0.0.1:{proxy} answered 403 .* to CONNECT 127.0.0.1:4444")


@needs("tinyproxy")
def test_a_place_that_an_http_proxy_can_t_reach_is_named(ends: Ends, tmp_path: Path) -> None:
    closed = free_port("127.0.0.1")
    with forward_proxy(tmp_path / "proxy", [closed]) as proxy:
        connecting = ends.connect(f"127.0.0.1:{closed}", "--proxy", f"http://127.0.0.1:{proxy}")
        assert talk_to_nobody(connecting)
        complaint(connecting, f"the proxy 127.0.0.1:{proxy} answered 50\\d .* to CONNECT 127.0.0.1:{closed}")
