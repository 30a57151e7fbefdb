"""Places to listen at and to dial in a test, and a resolver that asks nobody."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from pytunnel.transport import places
from pytunnel.transport.endpoint import (
    Endpoint,
    TcpEndpoint,
)
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions

DEFAULT = SocketOptions()
LOCAL = TcpEndpoint("127.0.0.1", 0)


Stream = trio.abc.HalfCloseableStream
Answer = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class Names(trio.abc.HostnameResolver):
    """Answers for the names of these tests, whatever the host's resolver knows."""

    def __init__(self, **addresses: tuple[str, ...]) -> None:
        self.addresses = addresses

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return [answer for address in self.addresses[(host or b"").decode()] for answer in _read(address, port, family)]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


def _read(address: str, port: bytes | str | int | None, family: int) -> list[Answer]:
    """An IP address as getaddrinfo returns it; nobody is asked."""
    try:
        return list(socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST))
    except socket.gaierror:  # of another family than is wanted
        return []


def socket_of(opened: object) -> trio.socket.SocketType:
    found = getattr(opened, "socket", None)
    assert isinstance(found, trio.socket.SocketType)
    return found


def host_of(opened: object) -> str:
    return str(socket_of(opened).getsockname()[0])


def port_of(opened: object) -> int:
    return int(socket_of(opened).getsockname()[1])


async def listening(
    endpoint: TcpEndpoint = LOCAL, options: SocketOptions = DEFAULT
) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    return await places.open_listeners(endpoint, options)


async def connected(
    options: SocketOptions = DEFAULT, listen_options: SocketOptions = DEFAULT
) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """The dialling and the accepted end of a TCP connection."""
    (listener,) = await listening(LOCAL, listen_options)
    dialled = await places.dial(TcpEndpoint("127.0.0.1", port_of(listener)), options)
    accepted = await listener.accept()
    await listener.aclose()
    return dialled, accepted


async def failure(endpoint: Endpoint, options: SocketOptions = DEFAULT) -> str:
    with pytest.raises(TransportError) as caught:
        await places.dial(endpoint, options)
    return str(caught.value)


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True
