"""The program behind the tunnel: takes any number of connections, checks every byte, and says what came.

Run as `python -m bench.sink PORT`; it serves until it is ended.
"""

from __future__ import annotations

import selectors
import socket
import sys
from dataclasses import dataclass

from bench import pattern
from bench.protocol import HEADER_SIZE, Header, Verdict, parse_header

_BACKLOG = 512


@dataclass(slots=True)
class _Arrival:
    """One connection: what it announced, and what of it has come."""

    connection: socket.socket
    header: Header | None = None
    size: int = 0
    right: bool = True

    def take(self, received: memoryview) -> None:
        """Check a piece; after the last one, answer."""
        if self.header is None:
            # The source sends the header by itself and first; 16 bytes are never cut on a loopback connection.
            self.header = parse_header(bytes(received[:HEADER_SIZE]))
            received = received[HEADER_SIZE:]
        self.right = self.right and pattern.is_right(received, self.header.position + self.size)
        self.size += len(received)
        if self.size >= self.header.size:
            self.connection.sendall(Verdict(self.size, self.right).encode())


def serve(listener: socket.socket) -> None:
    """Take connections until the process ends."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    buffer = memoryview(bytearray(pattern.PIECE))
    while True:
        for key, _ in selector.select():
            if key.data is None:
                connection = listener.accept()[0]
                selector.register(connection, selectors.EVENT_READ, _Arrival(connection))
            elif not _receive(key.data, buffer):
                selector.unregister(key.fileobj)
                key.data.connection.close()


def _receive(arrival: _Arrival, buffer: memoryview) -> bool:
    """Take what is there; whether more may come."""
    try:
        size = arrival.connection.recv_into(buffer)
    except ConnectionResetError:
        return False
    if size:
        arrival.take(buffer[:size])
    return size > 0


def main() -> None:
    """Listen at the port that the first argument names."""
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=_BACKLOG) as listener:
        serve(listener)


if __name__ == "__main__":
    main()
