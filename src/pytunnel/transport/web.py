"""Listen for WebSockets and dial them: the socket, a proxy, the outer TLS and the HTTP part, in their order."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import trio

from pytunnel.transport import outer, proxy, tcp
from pytunnel.transport.carried import CarriedListener
from pytunnel.transport.endpoint import WebSocketEndpoint, check_listening
from pytunnel.transport.errors import TransportError
from pytunnel.transport.headers import Headers
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.sockets import SocketListener
from pytunnel.transport.upgrade import answer, ask
from pytunnel.transport.websocket import WebSocketStream


class WebSocketListener(CarriedListener):
    """Accepts connections without waiting for what they ask for: that is the first thing that the stream does."""

    def __init__(self, listener: SocketListener, path: str, demanded: Headers) -> None:
        super().__init__(listener.socket)
        self._listener = listener
        self._path = path
        self._demanded = demanded

    async def accept(self) -> WebSocketStream:
        """Wait for the next connection."""
        accepted = await self._listener.accept()
        place = tcp.peer_of(accepted)
        return WebSocketStream(accepted, accepted, place, partial(answer, accepted, place, self._path, self._demanded))

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()


def check_dialling(endpoint: WebSocketEndpoint, options: SocketOptions) -> None:
    """Raise TransportError for what can be known to fail before anything is dialled: CAs that can't be read."""
    if endpoint.secure:
        outer.make_context(options.web.outer_ca)


async def open_listeners(endpoint: WebSocketEndpoint, options: SocketOptions) -> list[WebSocketListener]:
    """Listen for WebSockets at the endpoint's path; raises TransportError, EndpointError."""
    check_listening(endpoint)
    return above(await tcp.open_listeners(endpoint.server, options), endpoint, options)


def above(
    listeners: Iterable[SocketListener], endpoint: WebSocketEndpoint, options: SocketOptions
) -> list[WebSocketListener]:
    """Listeners for WebSockets on those of TCP."""
    return [WebSocketListener(listener, endpoint.path, options.web.headers) for listener in listeners]


async def dial(endpoint: WebSocketEndpoint, options: SocketOptions) -> WebSocketStream:
    """Open the WebSocket at the endpoint, within `options.connect_timeout` once it is reached.

    Raises TransportError.
    """
    context = outer.make_context(options.web.outer_ca) if endpoint.secure else None
    connected = await proxy.dial(endpoint.server, options)
    transport: trio.abc.Stream = connected
    try:
        with trio.fail_after(options.connect_timeout):
            if context is not None:
                transport = await outer.secure(connected, endpoint.server, context)
            stream = WebSocketStream(
                transport, connected, str(endpoint.server), partial(ask, transport, endpoint, options.web.headers)
            )
            await stream.open()
            return stream
    except BaseException as error:
        await trio.aclose_forcefully(connected)
        if isinstance(error, trio.TooSlowError):
            limit = options.connect_timeout
            text = f"{endpoint.server} did not open the WebSocket {endpoint.path} within {limit:g} s"
            raise TransportError(text) from error
        if isinstance(error, trio.BrokenResourceError):
            raise TransportError(f"{endpoint.server} broke the connection off during our WebSocket request") from error
        raise
