"""Two nodes that trust each other, their contexts, and transports between them that misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import pytest
import trio
from OpenSSL import SSL
from trio.testing import memory_stream_pair

from lab.certificates import self_signed
from pytunnel.tls.stream import TlsStream
from tests.support.credentials import context_of
from tests.support.handshakes import shake_hands, stream_pair

NODE1, NODE2 = self_signed("node1"), self_signed("node2")
BOTH = (NODE1, NODE2)
SERVER, CLIENT = context_of(NODE1, BOTH), context_of(NODE2, BOTH)
CLIENT_1_2 = context_of(NODE2, BOTH, maximum="1.2")

VERSIONS = pytest.mark.parametrize("client", [CLIENT, CLIENT_1_2], ids=["TLS 1.3", "TLS 1.2"])


class Altered(trio.abc.HalfCloseableStream):
    """A transport that gives out what arrives in pieces of these sizes.

    `ends_after` so many bytes it ends, and byte number `flips` is another one than was sent; None is never.
    """

    def __init__(self, inner: trio.abc.HalfCloseableStream, sizes: Iterator[int] | None = None) -> None:
        self.inner = inner
        self.sizes = sizes or repeat(65536)
        self.ends_after: int | None = None
        self.flips: int | None = None
        self.arrived = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        size = min(next(self.sizes), max_bytes or 65536)
        if self.ends_after is not None:
            size = min(size, self.ends_after - self.arrived)
        if size == 0:
            return b""
        data = bytearray(await self.inner.receive_some(size))
        if self.flips is not None and self.arrived <= self.flips < self.arrived + len(data):
            data[self.flips - self.arrived] ^= 0xFF
        self.arrived += len(data)
        return bytes(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def aclose(self) -> None:
        await self.inner.aclose()


def altered_pair() -> tuple[Altered, Altered]:
    one, other = memory_stream_pair()
    return Altered(one), Altered(other)


async def connected(client: SSL.Context = CLIENT) -> tuple[TlsStream, TlsStream]:
    streams = stream_pair(SERVER, client)
    await shake_hands(*streams)
    return streams
