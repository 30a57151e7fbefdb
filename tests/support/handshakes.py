"""Two ends of TLS in one test, over streams in memory."""

from __future__ import annotations

import trio
from OpenSSL import SSL
from trio.testing import memory_stream_pair

from pytunnel.tls.context import Side
from pytunnel.tls.errors import TlsError
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.session import Session
from pytunnel.tls.stream import TlsStream

ANYONE = ExpectedPeer()


def stream_pair(
    server: SSL.Context,
    client: SSL.Context,
    *,
    of_server: ExpectedPeer = ANYONE,
    of_client: ExpectedPeer = ANYONE,
    transports: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
) -> tuple[TlsStream, TlsStream]:
    """The server's and the client's end; `of_server` is whom the client expects there, `of_client` the other way."""
    at_server, at_client = transports or memory_stream_pair()
    return (
        TlsStream(at_server, server, Side.SERVER, place="the client", expected=of_client),
        TlsStream(at_client, client, Side.CLIENT, place="the server", expected=of_server),
    )


async def outcomes(*streams: TlsStream) -> list[Session | TlsError]:
    """What each end makes of the handshake; an end that fails closes its transport, as the tunnel does."""
    found: dict[TlsStream, Session | TlsError] = {}

    async def shake(stream: TlsStream) -> None:
        try:
            found[stream] = await stream.handshake()
        except TlsError as error:
            found[stream] = error
            await trio.aclose_forcefully(stream.transport)

    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(shake, stream)
    return [found[stream] for stream in streams]


async def shake_hands(*streams: TlsStream) -> list[Session]:
    """The sessions of ends that trust each other. Raises the first end's TlsError otherwise."""
    sessions = []
    for outcome in await outcomes(*streams):
        if isinstance(outcome, TlsError):
            raise outcome
        sessions.append(outcome)
    return sessions
