"""Secure one side of a connection: as TLS's server or client, within a limit, and knowing whom to expect there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import trio
from OpenSSL import SSL

from pytunnel.tls.context import Side
from pytunnel.tls.errors import HandshakeError
from pytunnel.tls.identity import ExpectedPeer, ascii_host, parse_address
from pytunnel.tls.session import Session
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.endpoint import Endpoint, TcpEndpoint
from pytunnel.transport.names import Confirmed, confirmed_names
from pytunnel.transport.places import Stream
from pytunnel.tunnel.relay import ConnectionFailed

FRESH = 10.0
"""Seconds for which an answer of DNS about a peer's names is used."""


@dataclass(frozen=True, slots=True)
class TlsServer:
    """Secures accepted connections."""

    context: SSL.Context
    expected: ExpectedPeer
    handshake_limit: float

    async def secure(self, transport: Stream, place: str) -> tuple[TlsStream, Session]:
        """The server's side of a handshake; closes `transport` on failure. Raises TlsError."""
        stream = TlsStream(transport, self.context, Side.SERVER, place=place, expected=self.expected)
        return stream, await _handshake(stream, place, self.handshake_limit)


@dataclass(frozen=True, slots=True)
class TlsClient:
    """Secures dialled connections. `server_name` is for SNI, empty for none."""

    context: SSL.Context
    expected: ExpectedPeer | PeerAt
    server_name: str
    handshake_limit: float

    async def secure(self, transport: Stream, place: str) -> tuple[TlsStream, Session]:
        """The client's side of a handshake; closes `transport` on failure. Raises TlsError."""
        stream = TlsStream(
            transport,
            self.context,
            Side.CLIENT,
            place=place,
            expected=await self._expected_now(transport),
            server_name=self.server_name,
        )
        return stream, await _handshake(stream, place, self.handshake_limit)

    async def _expected_now(self, transport: Stream) -> ExpectedPeer:
        if isinstance(self.expected, ExpectedPeer):
            return self.expected
        try:
            return await self.expected.now()
        except BaseException:
            await trio.aclose_forcefully(transport)
            raise


class PeerAt:
    """Whom to expect at `host`: itself, and the names that DNS confirms at the time of a connection.

    A name that was confirmed once says nothing of who is there tomorrow, and a resolver that is down today, as at the
    start of a host, may be up tomorrow.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._peer = ExpectedPeer((host,))
        self._stale = -math.inf
        self._asking = trio.Lock()

    async def now(self) -> ExpectedPeer:
        """What DNS says, or said in the last FRESH seconds, also if that was nothing."""
        async with self._asking:  # many connections at once are one question
            if trio.current_time() >= self._stale:
                self._peer = await expected_at(self._host)
                self._stale = trio.current_time() + FRESH
            return self._peer


def make_client(
    target: Endpoint,
    settings: TlsSettings,
    context: SSL.Context,
    expected: ExpectedPeer | PeerAt,
    handshake_limit: float,
) -> TlsClient:
    """The TLS client for `target`, which has to be `expected`; SNI announces the target's host or the settings' name.

    Raises ConnectionFailed for a name that SNI can't hold.
    """
    host = target.host if isinstance(target, TcpEndpoint) else ""
    announced = _announced(host if settings.server_name is None else settings.server_name)
    return TlsClient(context, expected, announced, handshake_limit)


def _announced(server_name: str) -> str:
    """The name for SNI as DNS has it; nothing for an address (RFC 6066, 3)."""
    if not server_name or parse_address(server_name) is not None:
        return ""
    name = ascii_host(server_name)
    if name is None:
        raise ConnectionFailed(f"{server_name!r} is no host name, so no server can be asked for it")
    return name


async def expected_at(host: str, peer_names: Sequence[str] = ()) -> ExpectedPeer:
    """Whom to expect at `host`: the given names instead of it, or itself and the names that DNS confirms."""
    if peer_names:
        return ExpectedPeer(tuple(peer_names))
    return ExpectedPeer(tuple(dict.fromkeys((host, *(await other_names(host)).names))))


async def other_names(host: str) -> Confirmed:
    """The names that DNS confirms for `host`: an address has those that lead back to it, a short name (without a dot)
    those of its addresses. A full name has no other, and DNS is not asked.
    """
    address = parse_address(host)
    if address is None and "." in host:
        return Confirmed(())
    return await confirmed_names(host, None if address is None else str(address))


async def _handshake(stream: TlsStream, place: str, limit: float) -> Session:
    began = trio.current_time()
    try:
        with trio.move_on_after(limit):
            session = await stream.handshake()
            return replace(session, seconds=trio.current_time() - began)
        raise HandshakeError(f"{place} did not finish the TLS handshake within {limit:g} s")
    except BaseException:
        await trio.aclose_forcefully(stream.transport)
        raise
