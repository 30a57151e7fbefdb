"""The HTTP part of a WebSocket (RFC 6455, 4): ask a server for one, or answer whoever asks us.

wsproto and h11 read and write the words; h11 takes no more than 16 KiB of a request or an answer. What is refused gets
a status and a sentence, so that a person with curl or an ingress' log sees why. Values of headers are never shown.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from http import HTTPStatus
from typing import NoReturn

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.utilities import ProtocolError, RemoteProtocolError

from pytunnel.transport.endpoint import TcpEndpoint, WebSocketEndpoint
from pytunnel.transport.errors import TransportError, WebSocketError
from pytunnel.transport.headers import Headers, named
from pytunnel.transport.names import ascii_name

_PIECE = 16 * 1024  # bytes
_LARGEST_ANSWER = 64 * 1024  # bytes of a head, and of interim answers before it
_LAST_WORDS = 1.0  # seconds that a refused client has to read why

_ADVICE = {
    301: "it sends clients elsewhere; name that place instead",
    302: "it sends clients elsewhere; name that place instead",
    307: "it sends clients elsewhere; name that place instead",
    308: "it sends clients elsewhere; name that place instead",
    401: "does it want a token? give it by --header",
    403: "does it want a token? give it by --header",
    404: "is the path right?",
    421: "it does not serve this host name",
    426: "does the proxy pass the Upgrade header on?",
    502: "it can't reach the node behind it",
    503: "it can't reach the node behind it",
    504: "it can't reach the node behind it",
}
_NO_WEB_SOCKET = "does it serve a WebSocket there, and does the proxy pass the Upgrade header on?"


async def ask(transport: trio.abc.Stream, endpoint: WebSocketEndpoint, headers: Headers) -> WSConnection:
    """Ask the server of `endpoint` for its WebSocket. Raises TransportError, trio.BrokenResourceError."""
    place, what = str(endpoint.server), f"the WebSocket request for {endpoint.path}"
    connection = WSConnection(ConnectionType.CLIENT)
    try:
        await transport.send_all(connection.send(_request(endpoint, headers)))
    except (ProtocolError, h11.ProtocolError, UnicodeError) as error:
        raise TransportError(f"{what} at {place} can't be written as HTTP; is each --header NAME:VALUE?") from error
    received = 0
    while True:
        data = await transport.receive_some(_PIECE)
        received += len(data)
        if not data:
            raise TransportError(f"{place} closed the connection instead of answering {what}")
        try:
            connection.receive_data(bytes(data))
        except (RemoteProtocolError, UnicodeError) as error:
            raise TransportError(f"{place} answered {what} wrongly ({error}); {_NO_WEB_SOCKET}") from error
        for event in connection.events():
            if isinstance(event, AcceptConnection):
                return connection
            if isinstance(event, RejectConnection):
                status = event.status_code
                advice = _ADVICE.get(status, _NO_WEB_SOCKET)
                raise TransportError(f"{place} answered {named(status)} to {what}; {advice}")
        if received > _LARGEST_ANSWER:
            raise TransportError(f"{place} answered {what} with more than a head of HTTP; {_NO_WEB_SOCKET}")


def _request(endpoint: WebSocketEndpoint, headers: Headers) -> Request:
    """A header Host of ours stands in the place of the server's name."""
    server = TcpEndpoint(ascii_name(endpoint.server.host), endpoint.server.port)
    host = str(server).removesuffix(f":{server.port}") if endpoint.has_default_port else str(server)
    more: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.lower() == "host":
            host = value
        else:
            more.append((name.encode("ascii"), value.encode("ascii")))
    return Request(host=host, target=endpoint.resource, extra_headers=more)


async def answer(transport: trio.abc.HalfCloseableStream, place: str, path: str, demanded: Headers) -> WSConnection:
    """Take the request of whoever connected from `place`, if it is for `path` and has the headers that are demanded.

    Raises WebSocketError when it is refused or there is none; the caller sets the time limit.
    """
    connection = WSConnection(ConnectionType.SERVER)
    try:
        request = await _read_request(connection, transport, place)
        refusal = _judge(request, path, demanded)
        if refusal is not None:
            await _refuse(connection, transport, place, *refusal)
        await transport.send_all(connection.send(AcceptConnection()))
    except trio.BrokenResourceError as error:
        raise WebSocketError(f"{place} broke the connection off during its WebSocket request") from error
    return connection


async def _read_request(connection: WSConnection, transport: trio.abc.HalfCloseableStream, place: str) -> Request:
    while True:
        data = await transport.receive_some(_PIECE)
        if not data:
            raise WebSocketError(f"{place} closed the connection before it had asked for a WebSocket")
        try:
            connection.receive_data(bytes(data))
        except RemoteProtocolError as error:
            await _refuse(connection, transport, place, _status_of(error), str(error))
        except UnicodeError:  # wsproto takes a Host that is no name for one
            await _refuse(connection, transport, place, HTTPStatus.BAD_REQUEST, "Bad Host header")
        for event in connection.events():
            if isinstance(event, Request):
                return event


def _status_of(error: RemoteProtocolError) -> int:
    if "Upgrade" in str(error) or "Sec-WebSocket-Version" in str(error):
        return HTTPStatus.UPGRADE_REQUIRED
    return HTTPStatus.BAD_REQUEST


def _judge(request: Request, path: str, demanded: Headers) -> tuple[int, str] | None:
    """The status and the sentence of a refusal, None for a request that may pass."""
    if request.target.partition("?")[0] != path:
        return HTTPStatus.NOT_FOUND, "there is no WebSocket at this path"
    given: dict[str, list[bytes]] = {"host": [request.host.encode()]}
    for name, value in request.extra_headers:
        given.setdefault(name.decode("ascii").lower(), []).append(value)
    for wanted, content in demanded:
        values = given.get(wanted.lower(), [])
        if any(hmac.compare_digest(value, content.encode("ascii")) for value in values):
            continue
        if wanted.lower() == "host":
            return HTTPStatus.MISDIRECTED_REQUEST, "this host name is not served here"
        return HTTPStatus.FORBIDDEN, f"the header {wanted} is missing or wrong"
    return None


async def _refuse(
    connection: WSConnection, transport: trio.abc.HalfCloseableStream, place: str, status: int, sentence: str
) -> NoReturn:
    body = f"pytunnel: {sentence}\n".encode()
    headers = [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", str(len(body)).encode()),
        (b"Connection", b"close"),
    ]
    if status == HTTPStatus.UPGRADE_REQUIRED:
        headers += [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")]
    said = connection.send(RejectConnection(status_code=status, headers=headers, has_body=True))
    said += connection.send(RejectData(data=body))
    with suppress(trio.BrokenResourceError), trio.move_on_after(_LAST_WORDS):
        await transport.send_all(said)
        await transport.send_eof()
        # Closing a socket with unread bytes is a reset, which would overtake the answer.
        while await transport.receive_some(_PIECE):
            pass
    raise WebSocketError(f"{place} was answered {named(status)} to its WebSocket request: {sentence}")
