"""The way between the nodes: TCP to the address that the joiner announced, or a WebSocket where only HTTP passes.

`transport` in `[sst]` is a donor's way to a joiner, `listen` where a joiner awaits it. Neither changes who is expected:
a donor checks the joiner's certificate against the announced address, whatever way the connection took.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pytunnel.sst.address import Address
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.transport.endpoint import (
    EndpointError,
    TcpEndpoint,
    WebSocketEndpoint,
    check_listening,
    parse_endpoint,
)
from pytunnel.transport.headers import parse_headers
from pytunnel.transport.options import SocketOptions, WebSocketOptions
from pytunnel.transport.proxy import parse_proxy

_HOST = "{host}"
_SAMPLE = Address("joiner.example")

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Route:
    """`transport` is the text of a WebSocket's URL in which {host} stands for the joiner's host."""

    transport: str | None = None
    listen: WebSocketEndpoint | None = None

    def to(self, joiner: Address) -> TcpEndpoint | WebSocketEndpoint:
        """Where a donor reaches the joiner; raises EndpointError."""
        if self.transport is None:
            return TcpEndpoint(joiner.host, joiner.port)
        return _to(self.transport, joiner)


def read_route(sst: OptionGroup) -> Route:
    """Understand `transport` and `listen`; raises SstError that names the key."""
    return Route(read_transport(sst), read_listen(sst))


def read_transport(sst: OptionGroup) -> str | None:
    """`transport`, once it is known to be a URL when a host's name stands in it; raises SstError."""
    text = _text(sst, "transport")
    if text is not None:
        _understand("transport", _to, text, _SAMPLE)
    return text


def read_listen(sst: OptionGroup) -> WebSocketEndpoint | None:
    """`listen`; raises SstError."""
    text = _text(sst, "listen")
    return None if text is None else _understand("listen", _listening, text)


def read_web_options(sst: OptionGroup, sockets: SocketOptions) -> SocketOptions:
    """The options with `outer-ca`, `header` and `proxy`; raises SstError, in which no value of theirs is shown."""
    outer_ca, header, proxy = (_text(sst, key) for key in ("outer-ca", "header", "proxy"))
    return replace(
        sockets,
        proxy=None if proxy is None else _understand("proxy", parse_proxy, proxy),
        web=WebSocketOptions(
            headers=() if header is None else _understand("header", parse_headers, header),
            outer_ca=None if outer_ca is None else Path(outer_ca),
        ),
    )


def _to(text: str, joiner: Address) -> WebSocketEndpoint:
    """Put the joiner's host into the URL, in brackets where a port may follow it."""
    scheme, slashes, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    host = f"[{joiner.host}]" if ":" in joiner.host else joiner.host
    url = f"{scheme}{slashes}{authority.replace(_HOST, host)}{slash}{path.replace(_HOST, joiner.host)}"
    return _web_socket(url)


def _listening(text: str) -> WebSocketEndpoint:
    endpoint = _web_socket(text)
    check_listening(endpoint)
    return endpoint


def _web_socket(text: str) -> WebSocketEndpoint:
    endpoint = parse_endpoint(text)
    if not isinstance(endpoint, WebSocketEndpoint):
        raise EndpointError("expected ws://HOST:PORT/PATH or wss://HOST:PORT/PATH; without the key, plain TCP is used")
    return endpoint


def _text(sst: OptionGroup, key: str) -> str | None:
    if key not in sst:
        return None
    text = sst.get(key)
    if not text:
        raise SstError(f"{key} in [sst] has no value; remove it, or give one", exit_code=ExitCode.BAD_SETTING)
    return text


def _understand(key: str, read: Callable[..., _Value], *given: object) -> _Value:
    try:
        return read(*given)
    except (ValueError, EndpointError) as error:
        raise SstError(f"{key} in [sst]: {error}", exit_code=ExitCode.BAD_SETTING) from None
