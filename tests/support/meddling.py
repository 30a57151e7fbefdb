"""Somebody in the middle of two ends, as threads of the test: hears all, keeps it, and changes what passes.

What passes is TLS records, whole ones: that is what an attacker who knows TLS would drop, double or reorder.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.plain import dial
from tests.support.tunnels import LIMIT

APPLICATION_DATA = 23  # RFC 8446, 5.1; in TLS 1.3 also what is encrypted of the handshake

Meddle = Callable[[int, bytes], list[bytes]]
"""What becomes of record number N from the client to the server: the records to send instead of it; a record b"" ends
the connection."""


def nothing(_: int, record: bytes) -> list[bytes]:
    """Let everything pass."""
    return [record]


@dataclass(slots=True)
class Heard:
    """The records of each connection from the client to the server, in order."""

    connections: list[list[bytes]] = field(default_factory=list)


@contextmanager
def in_the_middle(target: tuple[str, int], meddle: Meddle = nothing) -> Iterator[tuple[int, Heard]]:
    """A port that leads to `target`, and what was heard there."""
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):  # the listener was shut down: the end of the block
                while True:
                    client, _ = listener.accept()
                    client.settimeout(LIMIT)
                    server = dial(target)
                    records: list[bytes] = []
                    heard.connections.append(records)
                    threading.Thread(target=_forward, args=(client, server, meddle, records), daemon=True).start()
                    threading.Thread(target=_copy, args=(server, client), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _forward(client: socket.socket, server: socket.socket, meddle: Meddle, records: list[bytes]) -> None:
    with _both_end(client, server):
        while (record := _read_record(client)) is not None:
            records.append(record)
            for instead in meddle(len(records) - 1, record):
                if not instead:
                    server.shutdown(socket.SHUT_WR)
                    return
                server.sendall(instead)
        server.shutdown(socket.SHUT_WR)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with _both_end(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def _both_end(*connections: socket.socket) -> Iterator[None]:
    """What breaks on one side breaks on the other."""
    try:
        yield
    except OSError:
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _read_record(connection: socket.socket) -> bytes | None:
    head = _read_exactly(connection, 5)
    return None if head is None else head + (_read_exactly(connection, int.from_bytes(head[3:])) or b"")


def _read_exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return data
