"""Unix stream sockets in the file system, for the user that owns them alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import trio

from pytunnel.transport.endpoint import UnixEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.sockets import SocketListener, SocketStream


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


async def open_listener(endpoint: UnixEndpoint, backlog: int) -> UnixListener:
    """Listen at the path, mode 0600 from its first moment on.

    A dead socket's file is replaced; anything else at the path is an error. Raises TransportError.
    """
    path = Path(endpoint.path)
    await _clear_dead_socket(endpoint)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_privately(sock, endpoint.path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        taken = error.errno == errno.EADDRINUSE
        raise TransportError(f"can't listen on {endpoint}: {error.strerror}", port_taken=taken) from error
    return UnixListener(trio.socket.from_stdlib_socket(sock), path)


async def dial(endpoint: UnixEndpoint) -> SocketStream:
    """Connect to the socket; raises TransportError."""
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await sock.connect(endpoint.path)
    except OSError as error:
        sock.close()
        raise TransportError(f"{endpoint} can't be reached: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    return SocketStream(sock)


def _bind_privately(sock: socket.socket, path: str) -> None:
    """The umask is the process's, but nothing else of it runs between these calls."""
    previous = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(previous)


async def _clear_dead_socket(endpoint: UnixEndpoint) -> None:
    if not _is_socket(endpoint):
        return
    try:
        stream = await dial(endpoint)
    except TransportError as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            _remove(endpoint)
            return
        raise
    await stream.aclose()
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
    Path(endpoint.path).unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
