"""Sockets that listen already: systemd opened them for us (socket activation) and keeps them while we restart."""

from __future__ import annotations

import os
import socket

import trio

from pytunnel.system.systemd import passed_sockets
from pytunnel.transport.endpoint import SystemdEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.sockets import SocketListener


def open_listeners(endpoint: SystemdEndpoint) -> list[SocketListener]:
    """Those with the endpoint's name, all if it names none; a socket can be had once. Raises TransportError."""
    passed = passed_sockets(os.environ)
    wanted = [descriptor for name, descriptor in passed if endpoint.name in ("", name)]
    if not wanted:
        names = ", ".join(sorted({name for name, _ in passed})) or "no socket at all"
        raise TransportError(
            f"{endpoint}: systemd passed {names} to this process; write a .socket unit with FileDescriptorName= for it"
        )
    return [_listener(endpoint, descriptor) for descriptor in wanted]


def _listener(endpoint: SystemdEndpoint, descriptor: int) -> SocketListener:
    try:
        passed = socket.socket(fileno=descriptor)
        accepts = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise TransportError(f"{endpoint}: descriptor {descriptor} is no socket: {error.strerror}") from error
    if passed.type != socket.SOCK_STREAM or not accepts:
        raise TransportError(f"{endpoint}: the socket accepts no connections; expected ListenStream= and Accept=no")
    return SocketListener(trio.socket.from_stdlib_socket(passed))
