"""Programs in plain TCP or over a Unix socket, as threads of the test: what tunnels carry."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.tunnels import LIMIT

Handler = Callable[[socket.socket], None]
Place = tuple[str, int] | str

_PIECE = 65536


@contextmanager
def serving(handler: Handler, path: Path | None = None) -> Iterator[int]:
    """Let `handler` serve each connection in a thread, at a free port (yielded), or at the Unix socket `path`.

    What a handler raises is raised at the end of the block.
    """
    raised: list[BaseException] = []
    threads: list[threading.Thread] = []
    with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as listener:
        listener.bind(("127.0.0.1", 0) if path is None else str(path))
        listener.listen(200)

        def serve(connection: socket.socket) -> None:
            connection.settimeout(LIMIT)
            try:
                with connection:
                    handler(connection)
            except BaseException as error:
                raised.append(error)

        def accept() -> None:
            with suppress(OSError):  # the listener was shut down: the end of the block
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield listener.getsockname()[1] if path is None else 0
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(LIMIT)
            for thread in threads:
                thread.join(LIMIT)
    for error in raised:
        raise error


def echo(connection: socket.socket) -> None:
    """Send everything back, and then the end of file."""
    while data := connection.recv(_PIECE):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def digest_after_end(connection: socket.socket) -> None:
    """Answer with the digest of all that came, after its end of file: needs half-close."""
    connection.sendall(digest(read_all(connection)).encode())


def read_all(connection: socket.socket) -> bytes:
    """Everything until the end of file."""
    received = bytearray()
    while data := connection.recv(_PIECE):
        received += data
    return bytes(received)


def dial(place: Place | int) -> socket.socket:
    """A connection with a time limit to a port of this host, an address, or a Unix socket."""
    if isinstance(place, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(LIMIT)
        connection.connect(place)
        return connection
    return socket.create_connection(("127.0.0.1", place) if isinstance(place, int) else place, timeout=LIMIT)


def talk(place: Place | int, data: bytes) -> bytes:
    """Send `data` and the end of file, while reading until the end of file."""
    with dial(place) as connection:

        def send() -> None:
            with suppress(OSError):  # whoever reads hears what became of the connection
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        received = read_all(connection)
        sender.join(LIMIT)
        return received


def some_data(size: int, seed: int = 0) -> bytes:
    """Bytes that no compression and no text mode leaves as they are."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - data to move, not to hide


def digest(data: bytes) -> str:
    """Two contents are compared by this: a difference of megabytes is no help in a report."""
    return hashlib.sha256(data).hexdigest()


def is_refused(place: Place | int) -> bool:
    """Whether nobody listens there any more."""
    try:
        dial(place).close()
    except (ConnectionRefusedError, ConnectionResetError):  # reset: it was closed at this very moment
        return True
    return False
