"""The server's side of HTTP CONNECT (RFC 9110, 9.3.6): a program names the target that it wants to be connected with.

rsync does so where RSYNC_PROXY is set. h11 reads the request and writes the answer, and never holds more than a few
kilobytes. Only targets that were allowed are dialled; whoever answers there must prove in the TLS handshake to have
the name that was asked for, so wherever DNS leads, no byte goes to another.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import h11
import trio
from OpenSSL import SSL

from pytunnel.errors import PytunnelError
from pytunnel.tls.identity import ascii_host, matches_host, parse_address
from pytunnel.transport.endpoint import EndpointError, TcpEndpoint, parse_endpoint
from pytunnel.transport.places import Stream
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.relay import ConnectionFailed
from pytunnel.tunnel.securing import TlsClient
from pytunnel.tunnel.tunnel import Gateway

log = logging.getLogger(__name__)

_LARGEST_HEAD = 16 * 1024  # bytes of a request line with its headers; rsync's has a hundred
_TURN = 4096
_LAST_WORDS = 1.0  # seconds that a refused client has to read why


@dataclass(frozen=True, slots=True)
class AllowedTarget:
    """A place that may be asked for: a host name, `*.` and a domain for any name one label below it, or an IP address.

    The port is one number. A pattern of names allows no IP address.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return str(TcpEndpoint(self.host, self.port))

    def allows(self, target: TcpEndpoint) -> bool:
        """Whether `target` is such a place."""
        if target.port != self.port:
            return False
        address = parse_address(self.host)
        if address is not None:
            return parse_address(target.host) == address
        return matches_host(self.host, target.host)


def parse_allowed(text: str) -> AllowedTarget:
    """Understand `HOST:PORT` or `*.DOMAIN:PORT`; raises ValueError that says what is expected."""
    expected = "expected HOST:PORT or *.DOMAIN:PORT with a domain of two labels or more, such as *.my.cluster:4444"
    try:
        place = _authority(text)
    except EndpointError as error:
        raise ValueError(expected) from error
    domain = place.host.removeprefix("*.")
    is_name = ascii_host(domain) is not None and "*" not in domain
    is_wide = domain != place.host and (parse_address(domain) is not None or "." not in domain.removesuffix("."))
    if not place.port or is_wide or not (is_name or parse_address(place.host)):
        raise ValueError(expected)
    return AllowedTarget(place.host, place.port)


@dataclass(frozen=True, slots=True)
class AllowedTargets:
    """What may be asked for, in the place of one target.

    `port` is where the targets' TLS is, None for the port that was asked for.
    """

    patterns: tuple[AllowedTarget, ...]
    port: int | None = None

    def __str__(self) -> str:
        return " or ".join(map(str, self.patterns)) + ("" if self.port is None else f", at port {self.port}")

    def place_of(self, target: TcpEndpoint) -> TcpEndpoint | None:
        """Where to dial for `target`; None if it is not allowed."""
        if not any(pattern.allows(target) for pattern in self.patterns):
            return None
        return target if self.port is None else TcpEndpoint(target.host, self.port)


@dataclass(slots=True)
class HttpGateway(Gateway):
    """Reads which target each accepted connection asks for, and reaches it if it is allowed.

    `dial` opens a connection to a place, `client` makes of the context what secures one that leads there; both raise
    PytunnelError. `request_limit` is in seconds, for the whole request.
    """

    allowed: AllowedTargets
    dial: Callable[[TcpEndpoint], Awaitable[Stream]]
    client: Callable[[TcpEndpoint, SSL.Context], TlsClient]
    context: SSL.Context
    request_limit: float

    async def reach(self, accepted: Stream, connection: Connection) -> Stream:
        """Take the request from `accepted`, dial its target, secure that, answer 200.

        Raises PytunnelError, after an error as the answer.
        """
        request = await _receive(accepted, self.request_limit)
        connection.target = str(request.target)
        place = self.allowed.place_of(request.target)
        if place is None:
            await request.refuse(403, f"{request.target} is not an allowed target")
            raise ConnectionFailed(f"refused; allowed are {self.allowed} (--allow-target)")
        try:
            far = await self._open(place, connection)
        except PytunnelError:
            await request.refuse(502, f"{request.target} can not be reached, see pytunnel's log")
            raise
        try:
            await request.accept(far, connection)
        except BaseException:
            await trio.aclose_forcefully(far)
            raise
        return far

    def renew(self, context: SSL.Context) -> None:
        """Secure what is dialled from now on with this context."""
        self.context = context

    async def _open(self, place: TcpEndpoint, connection: Connection) -> Stream:
        client = self.client(place, self.context)
        far, connection.session = await client.secure(await self.dial(place), str(place))
        return far


@dataclass(frozen=True, slots=True)
class _Request:
    """A CONNECT that was read and is not answered yet."""

    target: TcpEndpoint
    client: Stream
    state: h11.Connection

    async def accept(self, far: Stream, connection: Connection) -> None:
        """Answer 200 and send on what the client sent without waiting for that; raises ConnectionFailed."""
        answer = self.state.send(h11.Response(status_code=200, headers=[], reason=b"Connected"))
        early, _ = self.state.trailing_data
        try:
            await self.client.send_all(answer or b"")
            if early:
                await far.send_all(early)
                connection.traffic.outward += len(early)
        except trio.BrokenResourceError as error:
            raise ConnectionFailed(f"{connection.source} or {self.target} has gone before anything was sent") from error

    async def refuse(self, status: int, reason: str) -> None:
        """Answer with an error and close; rsync shows the `reason` to its user."""
        await _refuse(self.client, self.state, status, reason)


async def _receive(client: Stream, limit: float) -> _Request:
    state = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_HEAD)
    try:
        with trio.fail_after(limit):
            event = await _next_event(client, state)
    except trio.TooSlowError as error:
        await _refuse(client, state, 408, "no request came")
        raise ConnectionFailed(f"no HTTP CONNECT came within {limit:g} s") from error
    except h11.RemoteProtocolError as error:
        await _refuse(client, state, error.error_status_hint, "expected an HTTP CONNECT")
        raise ConnectionFailed(f"what came is no HTTP CONNECT: {error}") from error
    except trio.BrokenResourceError as error:
        raise ConnectionFailed("the client has gone before it asked for a target") from error
    if not isinstance(event, h11.Request):
        raise ConnectionFailed("the client ended the connection without a request")
    text = event.target.decode("ascii", "backslashreplace")
    if event.method != b"CONNECT":
        await _refuse(client, state, 405, "only CONNECT is served here", [("Allow", "CONNECT")])
        raise ConnectionFailed(f"refused: {event.method.decode('ascii', 'backslashreplace')} is not CONNECT")
    try:
        return _Request(_target(text), client, state)
    except EndpointError as error:
        await _refuse(client, state, 400, "expected CONNECT HOST:PORT")
        raise ConnectionFailed(f"refused: {error}") from error


def _target(text: str) -> TcpEndpoint:
    """The request's target, HOST:PORT; rsync writes an IPv6 address without brackets."""
    host, _, port = text.rpartition(":")
    if ":" in host and not host.startswith("["):
        text = f"[{host}]:{port}"
    return _authority(text)


def _authority(text: str) -> TcpEndpoint:
    place = parse_endpoint(text)
    if not isinstance(place, TcpEndpoint) or not place.host or not place.port:
        raise EndpointError(f"{text!r} is no place that can be asked for; expected HOST:PORT")
    return place


async def _next_event(client: Stream, state: h11.Connection) -> object:
    while (event := state.next_event()) is h11.NEED_DATA:
        state.receive_data(bytes(await client.receive_some(_TURN)))
    return event


async def _refuse(
    client: Stream, state: h11.Connection, status: int, reason: str, headers: Sequence[tuple[str, str]] = ()
) -> None:
    """Answer and close in order: a reset could overtake the answer."""
    head = [("Content-Length", "0"), ("Connection", "close"), *headers]
    answer = state.send(h11.Response(status_code=status, headers=head, reason=reason.encode("ascii", "replace")))
    with trio.move_on_after(_LAST_WORDS), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await client.send_all(answer or b"")
        if isinstance(client, trio.abc.HalfCloseableStream):
            await client.send_eof()
            while await client.receive_some(_TURN):
                pass
    await trio.aclose_forcefully(client)
