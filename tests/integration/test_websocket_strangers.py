"""Whoever finds the port of `listen ws://`: silent, slow or talking nonsense, it ends nobody else's connection."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack

import pytest

from tests.support.ends import Ends
from tests.support.plain import dial, digest, echo, read_all, serving, some_data, talk
from tests.support.tunnels import Program

REQUEST = (
    b"GET /sst HTTP/1.1\r\nHost: edge.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def web_socket(ends: Ends, target: int, *options: str) -> tuple[Program, int]:
    """A `listen` for WebSockets that leads to the port `target`, and the entrance of a `connect` to it."""
    listening = ends.listen(f"127.0.0.1:{target}", *options, source="ws://127.0.0.1:0/sst")
    return listening, ends.connect(f"ws://127.0.0.1:{listening.port}/sst").port


def upgraded(port: int) -> socket.socket:
    """A stranger whose request is through."""
    client = dial(port)
    client.sendall(REQUEST)
    assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
    return client


@pytest.mark.parametrize("began", [b"", REQUEST[:40], None])
def test_strangers_who_wait_lock_nobody_out(ends: Ends, began: bytes | None) -> None:
    with serving(echo) as port, ExitStack() as strangers:
        listening, entrance = web_socket(ends, port, "--max-connections", "5")
        for _ in range(20):
            client = strangers.enter_context(dial(listening.port) if began is not None else upgraded(listening.port))
            client.sendall(began or b"")
        assert talk(entrance, b"let me in") == b"let me in"


@pytest.mark.parametrize("began", [REQUEST[:40], None])
def test_who_does_not_get_on_is_dropped_after_the_handshake_limit(ends: Ends, began: bytes | None) -> None:
    listening, _ = web_socket(ends, 1, "--handshake-timeout", "0.5")
    with dial(listening.port) if began is not None else upgraded(listening.port) as client:
        client.sendall(began or b"")
        read_all(client)
    listening.wait_for("WARNING 127.0.0.1:.* did not finish the TLS handshake within 0.5 s")


@pytest.mark.parametrize(
    ("nonsense", "said"),
    [
        (b"\x81\x81\x00\x00\x00\x00x", "sent a text message"),
        (b"\x82\x01x", "sent what is no WebSocket message"),
        (b"\xff" * 100_000, "sent what is no WebSocket message"),
        (b"\x82\xff" + (2**40).to_bytes(8) + 4 * b"\x00" + b"\x16" * 300, "does not speak TLS here"),
        (b"\x88\x80\x00\x00\x00\x00", "closed the connection during the TLS handshake"),
        (b"", "ended the connection without closing its WebSocket"),
    ],
)
def test_nonsense_ends_its_own_connection_alone(ends: Ends, nonsense: bytes, said: str) -> None:
    data = some_data(3_000_000)
    with serving(echo) as port:
        listening, entrance = web_socket(ends, port)
        with dial(entrance) as client:
            client.sendall(b"before")
            assert client.recv(100) == b"before"
            with upgraded(listening.port) as stranger:
                stranger.sendall(nonsense)
                stranger.shutdown(socket.SHUT_WR)
            listening.wait_for(f"WARNING 127.0.0.1:.* {said}")
            client.sendall(b"after")
            assert client.recv(100) == b"after"
        assert digest(talk(entrance, data)) == digest(data)


def test_strangers_fill_no_log(ends: Ends) -> None:
    with serving(echo) as port:
        listening, entrance = web_socket(ends, port)
        for _ in range(40):
            with dial(listening.port) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert read_all(client).startswith(b"HTTP/1.1 426 ")
        assert talk(entrance, b"x") == b"x"
        lines = [line for line in listening.lines if re.search("426 Upgrade Required", line)]
        assert len(lines) == 10
