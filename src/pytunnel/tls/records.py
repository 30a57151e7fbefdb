"""A connection's bytes through OpenSSL with as few copies as it allows: ciphertext in, plaintext out, and back.

pyOpenSSL allocates and copies for each record of 16 KiB, twice on each way, which cost as much as the encryption. Here
OpenSSL reads received ciphertext where it lies, and writes plaintext and ciphertext into buffers that all connections
share. So the functions are called that pyOpenSSL itself calls, on the same connection: `_ssl`, `_into_ssl`,
`_from_ssl` and `_raise_ssl_error` are its own. The tests of the stream notice when a release of pyOpenSSL changes them.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from OpenSSL._util import ffi, lib, no_zero_allocator

TURN = 384 * 1024
"""Bytes that a turn of the relay moves: 24 records of TLS. Larger turns cost cache, smaller ones system calls."""

CIPHERTEXT = TURN + 8192
"""Bytes of ciphertext that a turn's plaintext makes, at most: each record carries less than 100 bytes besides."""

ROOM = CIPHERTEXT + 16 * 1024
"""Bytes of a buffer: so many can be decrypted at once from CIPHERTEXT bytes and the begun record before them."""

MOST_UNSAID = 4096
"""Bytes of answers to a peer's own messages, a few dozen each, that may wait until they can be sent."""

_PIECE = 32 * 1024  # what OpenSSL is given to encrypt at once: its memory BIO never shrinks, and most connections idle
_PIECE_AND_REST = _PIECE + 1024  # rsync writes 64 KiB and a few bytes, which are not worth a call of their own
_MOST_EMPTY = 32  # messages without data in one turn; each may cost a derivation of keys, and 14,000 fit into a turn
_KEPT = 16  # buffers that wait for their next use

Buffer = Any  # char[ROOM] of cffi, or a pointer into it; cffi has no types

_free: list[Buffer] = []


def take_buffer() -> Buffer:
    """A buffer of ROOM bytes with any content; `give_back` it when nothing points into it any more."""
    return _free.pop() if _free else no_zero_allocator("char[]", ROOM)


def give_back(buffer: Buffer) -> None:
    """Let another connection have the buffer."""
    if len(_free) < _KEPT:
        _free.append(buffer)


class BorrowedBuffer:
    """A buffer for the duration of a block."""

    __slots__ = ("_buffer",)

    def __enter__(self) -> Buffer:
        self._buffer = take_buffer()
        return self._buffer

    def __exit__(self, *_: object) -> None:
        give_back(self._buffer)


def view(buffer: Buffer, size: int) -> memoryview:
    """The first `size` bytes of a buffer, without a copy."""
    return memoryview(ffi.buffer(buffer, size))


def read_one_message_at_a_time(connection: SSL.Connection) -> None:
    """Let `decrypt` count messages without data: pyOpenSSL has OpenSSL read on until there is some, however many."""
    lib.SSL_clear_mode(connection._ssl, lib.SSL_MODE_AUTO_RETRY)


def feed(connection: SSL.Connection, ciphertext: bytes | bytearray | memoryview) -> None:
    """Let OpenSSL read `ciphertext` from now on; it must have read all that it was fed before.

    The caller keeps `ciphertext` until OpenSSL wants more.
    """
    source = lib.BIO_new_mem_buf(ffi.from_buffer(ciphertext), len(ciphertext))
    if source == ffi.NULL:
        raise MemoryError("OpenSSL has no memory for a BIO")
    lib.BIO_set_mem_eof_return(source, -1)  # at its end more may come: that is no end of the connection
    lib.SSL_set_bio(connection._ssl, source, connection._from_ssl)  # frees the one before
    connection._into_ssl = source


def decrypt(connection: SSL.Connection, buffer: Buffer, limit: int) -> tuple[int, SSL.Error | None]:
    """Decrypt complete records into `buffer` until `limit` bytes are there or OpenSSL wants to be fed.

    Returns how many bytes came, and what ended them: SSL.ZeroReturnError is the peer's close_notify, another SSL.Error
    broke the connection. OpenSSL tells it only once.
    """
    ssl, read = connection._ssl, lib.SSL_read
    size = empty = 0
    while size < limit:
        got = read(ssl, buffer + size, limit - size)
        if got > 0:
            size += got
        elif (ended := _what_ended(connection, got)) is not None or not _unread(connection):
            return size, ended
        else:  # a message of TLS itself
            empty += 1
            if empty > _MOST_EMPTY:
                return size, SSL.Error([("", "", "it sends nothing but messages of TLS itself")])
    return size, None


def _unread(connection: SSL.Connection) -> int:
    """How many bytes OpenSSL was fed and has not read."""
    size: int = lib.BIO_get_mem_data(connection._into_ssl, ffi.NULL)
    return size


def _what_ended(connection: SSL.Connection, result: int) -> SSL.Error | None:
    if lib.SSL_get_error(connection._ssl, result) == lib.SSL_ERROR_WANT_READ:
        return None
    try:
        connection._raise_ssl_error(connection._ssl, result)
    except SSL.Error as error:
        return error
    return None


def place_of(data: bytes | bytearray | memoryview) -> Any:
    """Where the bytes lie, for the duration of a block."""
    return ffi.from_buffer(data)


def encrypt(connection: SSL.Connection, plain: Buffer, size: int, buffer: Buffer) -> int:
    """Encrypt `size` bytes, up to TURN of them, from where they lie into `buffer`; the size of their records.

    Raises SSL.Error.
    """
    ssl, said = connection._ssl, connection._from_ssl
    write, take = lib.SSL_write, lib.BIO_read
    made = 0
    while size:
        length = size if size < _PIECE_AND_REST else _PIECE
        written = write(ssl, plain, length)
        if written != length:
            connection._raise_ssl_error(ssl, written)
            raise SSL.Error([("", "", "OpenSSL encrypted a part of what it was given")])
        made += take(said, buffer + made, ROOM - made)
        plain, size = plain + length, size - length
    return made


def unsaid(connection: SSL.Connection) -> int:
    """How many bytes OpenSSL wants to say."""
    size: int = lib.BIO_get_mem_data(connection._from_ssl, ffi.NULL)
    return size


def collect(connection: SSL.Connection, buffer: Buffer) -> int:
    """Up to ROOM bytes of what OpenSSL wants to say, into `buffer`; how many there are."""
    size: int = lib.BIO_read(connection._from_ssl, buffer, ROOM)
    return max(size, 0)
