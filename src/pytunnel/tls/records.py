"""A connection's bytes through OpenSSL with as few copies as it allows: ciphertext in, plaintext out, and back.

pyOpenSSL allocates and copies for each record of 16 KiB, twice on each way, which cost as much as the encryption. Here
OpenSSL reads received ciphertext where it lies, and writes plaintext and ciphertext into buffers that all connections
share. So the functions are called that pyOpenSSL itself calls, on the same connection: `_ssl`, `_into_ssl`,
`_from_ssl` and `_raise_ssl_error` are its own. The tests of the stream notice when a release of pyOpenSSL changes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import ffi, lib, no_zero_allocator

TURN = 384 * 1024
"""Bytes that a turn of the relay moves: 24 records of TLS. Larger turns cost cache, smaller ones system calls."""

ROOM = TURN + 8192
"""Bytes of ciphertext that a turn's plaintext makes: each record carries less than 100 bytes besides."""

_PIECE = 32 * 1024  # what OpenSSL is given to encrypt at once: its memory BIO never shrinks, and most connections idle
_KEPT = 16  # buffers that wait for their next use

Buffer = Any  # char[ROOM] of cffi, which has no types

_free: list[Buffer] = []


def take_buffer() -> Buffer:
    """A buffer of ROOM bytes with any content; `give_back` it when nothing points into it any more."""
    return _free.pop() if _free else no_zero_allocator("char[]", ROOM)


def give_back(buffer: Buffer) -> None:
    """Let another connection have the buffer."""
    if len(_free) < _KEPT:
        _free.append(buffer)


@contextmanager
def borrowed_buffer() -> Iterator[Buffer]:
    """A buffer for the duration of a block."""
    buffer = take_buffer()
    try:
        yield buffer
    finally:
        give_back(buffer)


def view(buffer: Buffer, size: int) -> memoryview:
    """The first `size` bytes of a buffer, without a copy."""
    return memoryview(ffi.buffer(buffer, size))


def feed(connection: SSL.Connection, ciphertext: bytes | bytearray) -> None:
    """Let OpenSSL read `ciphertext` from now on; it must have read all that it was fed before.

    The caller keeps `ciphertext` until OpenSSL wants more.
    """
    source = lib.BIO_new_mem_buf(ffi.from_buffer(ciphertext), len(ciphertext))
    if source == ffi.NULL:
        raise MemoryError("OpenSSL has no memory for a BIO")
    lib.BIO_set_mem_eof_return(source, -1)  # at its end more may come: that is no end of the connection
    lib.SSL_set_bio(connection._ssl, source, connection._from_ssl)  # frees the one before
    connection._into_ssl = source


def decrypt(connection: SSL.Connection, buffer: Buffer, start: int, limit: int) -> int:
    """One SSL_read into `buffer` from `start` up to `limit`: how many bytes came, 0 when OpenSSL wants to be fed.

    Raises SSL.ZeroReturnError after the peer's close_notify, SSL.Error for what breaks the connection.
    """
    size: int = lib.SSL_read(connection._ssl, buffer + start, limit - start)
    if size > 0:
        return size
    if lib.SSL_get_error(connection._ssl, size) != lib.SSL_ERROR_WANT_READ:
        connection._raise_ssl_error(connection._ssl, size)
    return 0


def encrypt(connection: SSL.Connection, plaintext: bytes | bytearray | memoryview, buffer: Buffer) -> int:
    """Encrypt up to TURN bytes into `buffer`; the size of their records. Raises SSL.Error."""
    size = 0
    with ffi.from_buffer(plaintext) as start:
        for begin in range(0, len(start), _PIECE):
            length = min(_PIECE, len(start) - begin)
            written = lib.SSL_write(connection._ssl, start + begin, length)
            if written != length:
                connection._raise_ssl_error(connection._ssl, written)
            size += _take_out(connection, buffer, size)
    return size


def collect(connection: SSL.Connection, buffer: Buffer) -> int:
    """Up to ROOM bytes of what OpenSSL wants to say, into `buffer`; how many there are."""
    return _take_out(connection, buffer, 0)


def _take_out(connection: SSL.Connection, buffer: Buffer, start: int) -> int:
    size: int = lib.BIO_read(connection._from_ssl, buffer + start, ROOM - start)
    return max(size, 0)
