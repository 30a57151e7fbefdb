"""What can be set on a socket before it listens or dials, as one value."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path

from pytunnel.transport.endpoint import TcpEndpoint

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a failed dial is tried again.

    `attempts` counts the tries after the first; `interval` is the pause between two, in seconds.
    """

    attempts: int = 0
    interval: float = 1.0


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """Options of WebSockets. `headers` are names and values, which may be secrets: sent when dialling, demanded of a
    request when listening. `outer_ca` is a file of the certificates that a wss:// server may be vouched for by; None
    for the system's.
    """

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    outer_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Options of TCP sockets, and of what is spoken over them first; None leaves the system's default.

    Keep-alive is on: a peer whose host lost its power says nothing more, and would hold its place for ever.

    `bind_host` is the local address: of the listener when listening, the source address when dialling; `bind_port` is
    the listener's.
    `connect_timeout` (of one address) and the keep-alive times are in seconds, the buffers in bytes.
    `allowed_peers` holds the networks a listener accepts from (None: every one). `proxy` is an HTTP proxy through which
    TCP is dialled.
    """

    family: socket.AddressFamily = socket.AF_UNSPEC
    bind_host: str | None = None
    bind_port: int | None = None
    reuse_address: bool = True
    no_delay: bool = True
    keep_alive: bool = True
    keep_idle: int = 60
    keep_interval: int = 15
    keep_count: int = 4
    send_buffer: int | None = None
    receive_buffer: int | None = None
    connect_timeout: float = 20.0
    retry: Retry = Retry()
    backlog: int | None = None
    allowed_peers: tuple[IPNetwork, ...] | None = None
    proxy: TcpEndpoint | None = None
    web: WebSocketOptions = WebSocketOptions()
