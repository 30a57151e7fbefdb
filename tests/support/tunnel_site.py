"""A tunnel over streams in memory, what it dials, and what became of its connections."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import trio
from trio.testing import memory_stream_pair

from lab.certificates import self_signed
from pytunnel.tls.context import Side
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.errors import TransportError
from pytunnel.transport.places import Stream
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.securing import TlsServer
from pytunnel.tunnel.tunnel import Limits, Tunnel
from tests.support.credentials import context_of
from tests.support.handshakes import ANYONE

NODE1, NODE2, STRANGER = self_signed("node1"), self_signed("node2"), self_signed("stranger")
BOTH = (NODE1, NODE2)
SERVER, CLIENT = context_of(NODE1, BOTH), context_of(NODE2, BOTH)
UNTRUSTED = context_of(STRANGER, BOTH)

Duplex = trio.abc.HalfCloseableStream


class Door(trio.abc.Listener[Stream]):
    """A listener in memory."""

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[Stream](100)
        self.closed = False
        self.shortage: int | None = None

    async def knock(self, pair: Callable[[], tuple[Duplex, Duplex]] = memory_stream_pair) -> Duplex:
        """Connect to the listener; returns the caller's end."""
        ours, theirs = pair()
        await self._sender.send(theirs)
        return ours

    async def accept(self) -> Stream:
        if self.shortage is not None:
            await trio.lowlevel.checkpoint()
            raise OSError(self.shortage, os.strerror(self.shortage))
        return await self._receiver.receive()

    async def aclose(self) -> None:
        self.closed = True
        self._receiver.close()
        await trio.lowlevel.checkpoint()


@dataclass(slots=True)
class Site:
    """A tunnel that is `listen`, what it dials, and the connections that have ended."""

    limits: Limits = field(default_factory=Limits)
    expected: ExpectedPeer = ANYONE
    once: bool = False
    door: Door = field(default_factory=Door)
    dialled: deque[Duplex] = field(default_factory=deque)
    seen: list[Connection] = field(default_factory=list)
    refuses: str = ""
    breaks: OSError | None = None

    def tunnel(self) -> Tunnel:
        server = TlsServer(SERVER, self.expected, self.limits.handshake)
        return Tunnel(self.dial, "the place", self.limits, server=server, observe=self._note, once=self.once)

    async def call(self) -> TlsStream:
        """A client that has shaken hands."""
        client = TlsStream(await self.door.knock(), CLIENT, Side.CLIENT, place="the tunnel", expected=ANYONE)
        await client.handshake()
        return client

    def failures(self) -> list[str]:
        return [connection.failure for connection in self.seen if connection.failure is not None]

    def _note(self, connection: Connection) -> None:
        if connection.ended:
            self.seen.append(connection)

    async def dial(self) -> Stream:
        await trio.lowlevel.checkpoint()
        if self.refuses:
            raise TransportError(self.refuses)
        if self.breaks is not None:
            raise self.breaks
        ours, theirs = memory_stream_pair()
        self.dialled.append(theirs)
        return ours


async def finish(client: TlsStream, place: Duplex) -> None:
    """End a connection well, from both sides."""
    await client.send_eof()
    await place.send_eof()
    assert await client.receive_some() == b""
