"""The client in front of the tunnel: sends the pattern, and believes nothing but the sink's verdict."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import BenchError, pattern
from bench.protocol import VERDICT_SIZE, Header, Verdict, parse_verdict

LIMIT = 60.0
"""Seconds that any step may take."""


@dataclass(slots=True)
class _Departure:
    """One stream on its way."""

    connection: socket.socket
    header: Header
    sent: int = 0

    def send_some(self) -> bool:
        """Send what the socket takes; whether there is more to send."""
        rest = self.header.size - self.sent
        self.sent += self.connection.send(pattern.piece(self.header.position + self.sent, rest))
        return self.sent < self.header.size


def send_streams(port: int, streams: int, total: int) -> float:
    """Send `total` bytes in `streams` equal connections at once; seconds until the last byte was confirmed.

    Raises BenchError when a byte was lost or changed.
    """
    size = total // streams
    with ExitStack() as connections:
        began = time.perf_counter()
        departures = [
            _Departure(connections.enter_context(_connect(port)), Header(number * 4099, size))
            for number in range(streams)
        ]
        for departure in departures:
            departure.connection.sendall(departure.header.encode())
        _send_all(departures)
        for departure in departures:
            check(read_verdict(departure.connection), size)
        return time.perf_counter() - began


def exchange(port: int, count: int, at_once: int) -> float:
    """Make `count` connections, `at_once` of them at a time, each with a byte there and a verdict back; seconds."""
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda number: _exchange_one(port, number), range(count)))
    return time.perf_counter() - began


@contextmanager
def idle_connections(port: int, count: int, size: int) -> Iterator[None]:
    """Hold `count` open connections during the block, each of which has carried `size` bytes before."""
    with ExitStack() as connections:
        for number in range(count):
            connection = connections.enter_context(_connect(port))
            connection.sendall(Header(number, size).encode())
            for position in range(0, size, pattern.PIECE):
                connection.sendall(pattern.piece(number + position, size - position))
            check(read_verdict(connection), size)
        yield


def _send_all(departures: list[_Departure]) -> None:
    deadline = time.monotonic() + LIMIT
    with selectors.DefaultSelector() as selector:
        for departure in departures:
            departure.connection.setblocking(False)
            selector.register(departure.connection, selectors.EVENT_WRITE, departure)
        while selector.get_map():
            for key, _ in selector.select(LIMIT):
                if not key.data.send_some():
                    selector.unregister(key.fileobj)
                    key.data.connection.settimeout(LIMIT)
            if time.monotonic() > deadline:
                raise BenchError(f"the streams did not get through within {LIMIT:g} s")


def _exchange_one(port: int, number: int) -> None:
    with _connect(port) as connection:
        connection.sendall(Header(number, 1).encode() + pattern.piece(number, 1))
        check(read_verdict(connection), 1)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), LIMIT)


def read_verdict(connection: socket.socket) -> Verdict:
    """What the sink says in the end; raises BenchError when it says nothing."""
    data = b""
    while len(data) < VERDICT_SIZE:
        received = connection.recv(VERDICT_SIZE - len(data))
        if not received:
            raise BenchError("the tunnel ended the connection before the sink had everything")
        data += received
    return parse_verdict(data)


def check(verdict: Verdict, size: int) -> None:
    """Raises BenchError unless `size` bytes came, each of them the right one."""
    if verdict.size != size or not verdict.right:
        what = "other bytes than were sent" if not verdict.right else f"{verdict.size} bytes"
        raise BenchError(f"the sink got {what}; {size} were sent")
