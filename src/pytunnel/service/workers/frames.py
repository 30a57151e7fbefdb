"""Messages between the supervisor and a worker over their socket pair: a length of four bytes, then so many bytes."""

from __future__ import annotations

import socket
import struct

import trio

_LENGTH = struct.Struct("!I")


async def send_frame(stream: trio.abc.SendStream, content: bytes) -> None:
    """Send one message; raises trio.BrokenResourceError when the other process has gone."""
    await stream.send_all(_LENGTH.pack(len(content)) + content)


async def receive_frame(stream: trio.abc.ReceiveStream) -> bytes | None:
    """The next message, None at the end; raises trio.BrokenResourceError."""
    head = await _receive_exactly(stream, _LENGTH.size)
    return None if head is None else await _receive_exactly(stream, _LENGTH.unpack(head)[0])


def read_frame(sock: socket.socket) -> bytes:
    """The next message of a blocking socket; raises EOFError where there is none."""
    return _read_exactly(sock, _LENGTH.unpack(_read_exactly(sock, _LENGTH.size))[0])


async def _receive_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes | None:
    content = b""
    while len(content) < size:
        data = await stream.receive_some(size - len(content))
        if not data:
            return None
        content += data
    return content


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        data = sock.recv(size - len(content))
        if not data:
            raise EOFError
        content += data
    return content
