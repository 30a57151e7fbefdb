"""Unix stream sockets in the file system, for the user that owns them alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import trio

from pytunnel.transport.endpoint import UnixEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.sockets import SocketListener, SocketStream

_FULL_PAUSE = 0.01  # seconds


class UnixListener(trio.abc.Listener[SocketStream]):
    """A listening socket that takes its file away when it closes, unless somebody has replaced it."""

    def __init__(self, sock: trio.socket.SocketType, path: Path) -> None:
        self.socket = sock
        self._listener = SocketListener(sock)
        self._path = path
        self._identity = _identity(path)

    async def accept(self) -> SocketStream:
        """Wait for the next connection."""
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Stop listening and remove the file."""
        if _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)
        await self._listener.aclose()


def open_listener(endpoint: UnixEndpoint, backlog: int) -> UnixListener:
    """Listen at the path, mode 0600 from its first moment on.

    A dead socket's file is replaced; anything else at the path is an error. Raises TransportError.
    """
    path = Path(endpoint.path)
    _clear_dead_socket(endpoint)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_privately(sock, endpoint.path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        taken = error.errno == errno.EADDRINUSE
        raise TransportError(f"can't listen on {endpoint}: {error.strerror}", port_taken=taken) from error
    return UnixListener(trio.socket.from_stdlib_socket(sock), path)


async def dial(endpoint: UnixEndpoint, limit: float) -> SocketStream:
    """Connect to the socket, within `limit` seconds where its queue is full; raises TransportError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        with trio.fail_after(limit):
            await _connect(sock, endpoint.path)
    except OSError as error:
        sock.close()
        raise TransportError(f"{endpoint} can't be reached: {error.strerror}") from error
    except trio.TooSlowError as error:
        sock.close()
        raise TransportError(f"{endpoint} can't be reached: its queue has been full for {limit:g} s") from error
    except BaseException:
        sock.close()
        raise
    return SocketStream(trio.socket.from_stdlib_socket(sock))


async def _connect(sock: socket.socket, path: str) -> None:
    """Connect, as soon as there is room in the queue: nothing tells of that, and trio takes a full one for success."""
    while True:
        await trio.lowlevel.checkpoint()
        try:
            sock.connect(path)
        except BlockingIOError:
            await trio.sleep(_FULL_PAUSE)
        else:
            return


def _bind_privately(sock: socket.socket, path: str) -> None:
    """The umask is the process's, but nothing else of it runs between these calls."""
    previous = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(previous)


def _clear_dead_socket(endpoint: UnixEndpoint) -> None:
    if not _is_socket(endpoint):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            with suppress(BlockingIOError):  # its queue is full: there is somebody
                probe.connect(endpoint.path)
        except ConnectionRefusedError:
            _remove(endpoint)
            return
        except OSError as error:
            raise TransportError(f"can't listen on {endpoint}: {error.strerror}") from error
    raise TransportError(f"can't listen on {endpoint}: another program listens there", port_taken=True)


def _is_socket(endpoint: UnixEndpoint) -> bool:
    try:
        mode = Path(endpoint.path).lstat().st_mode
    except OSError:
        return False  # nothing is there; bind says what is wrong with the directory
    if not stat.S_ISSOCK(mode):
        raise TransportError(f"can't listen on {endpoint}: a file that is no socket is in the way; remove it")
    return True


def _remove(endpoint: UnixEndpoint) -> None:
    try:
        Path(endpoint.path).unlink(missing_ok=True)
    except OSError as error:
        text = f"can't listen on {endpoint}: a dead socket is in the way and can't be removed: {error.strerror}"
        raise TransportError(text) from error


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
