"""TCP: listen on the addresses of a name, dial them in turn, with the socket options that were asked for."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

import trio

from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.sockets import SocketListener, SocketStream

_DEFAULT_BACKLOG = 1024
_RESOLVE_LIMIT = 15.0  # seconds; a resolver that doesn't answer must not hold a node's start for minutes
_FAMILIES = {int(socket.AF_INET): ("IPv4", "pf=ip4"), int(socket.AF_INET6): ("IPv6", "pf=ip6")}

_Resolved = tuple[socket.AddressFamily, tuple[object, ...]]
_Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]


async def open_listeners(endpoint: TcpEndpoint, options: SocketOptions) -> list[SocketListener]:
    """Listen on every address of the endpoint's host; port 0 takes a free one, the same on all addresses.

    `options.bind_host` and `bind_port` override the endpoint's. Raises TransportError, with nothing left listening.
    """
    host = endpoint.host if options.bind_host is None else options.bind_host
    port = endpoint.port if options.bind_port is None else options.bind_port
    place = TcpEndpoint(host, port)
    listeners: list[SocketListener] = []
    unavailable: OSError | None = None
    try:
        for family, address in await _resolve(place, options, passive=True):
            try:
                listeners.append(SocketListener(await _listen(family, address, port, options)))
            except OSError as error:
                # A name, localhost for example, may have IPv6 addresses on a host where IPv6 is switched off.
                if family != socket.AF_INET6 or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                unavailable = error
            else:
                port = port or listeners[-1].socket.getsockname()[1]
        if not listeners and unavailable is not None:
            raise unavailable
    except OSError as error:
        for listener in listeners:
            listener.socket.close()
        reason = os.strerror(error.errno or 0).lower()
        raise TransportError(
            f"can't listen on {place}: {reason}; {_advice(error, place, listeners)}",
            port_taken=error.errno == errno.EADDRINUSE,
        ) from error
    return listeners


def _advice(error: OSError, place: TcpEndpoint, listeners: Sequence[SocketListener]) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there"
    if error.errno == errno.EACCES and place.port == 0 and listeners:
        # The port that the first address got is none of Landlock's rules, which were in force before it was known.
        return "Landlock denies the port that was chosen on further addresses: with port 0 name one, as 127.0.0.1:0"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "a port below 1024 is for root, or for who has CAP_NET_BIND_SERVICE: choose another, or give that"
    return "is the address one of this host's?"


async def dial(endpoint: TcpEndpoint, options: SocketOptions) -> SocketStream:
    """Connect to the first address of the endpoint's host that answers.

    `options.retry` repeats the whole round. Raises TransportError that names each address and what it said.
    """
    for _ in range(options.retry.attempts):
        try:
            return await _dial_once(endpoint, options)
        except TransportError:
            await trio.sleep(options.retry.interval)
    return await _dial_once(endpoint, options)


def adjust(stream: SocketStream, options: SocketOptions) -> None:
    """Set on an accepted connection what its listener may not have: systemd's has none of it, and trio's listener
    always switches Nagle's algorithm off.
    """
    with suppress(OSError):  # it is closed already
        stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.no_delay)
        _set_keep_alive(stream.socket, options)


def reset(stream: SocketStream) -> None:
    """Make the coming close a reset, so that the program at the other end sees an error and no end of file."""
    with suppress(OSError):  # it is closed already
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def peer_of(stream: SocketStream) -> str:
    """The remote address of a connection as HOST:PORT, or what is known of a Unix socket's."""
    try:
        name = stream.socket.getpeername()
    except OSError:
        return "a peer that has gone"
    if isinstance(name, tuple):
        return str(TcpEndpoint(str(name[0]), int(name[1])))
    return "a local program"


def is_allowed(stream: SocketStream, options: SocketOptions) -> bool:
    """Whether `options.allowed_peers` lets this connection's remote address in."""
    if options.allowed_peers is None:
        return True
    try:
        address = ipaddress.ip_address(str(stream.socket.getpeername()[0]).partition("%")[0])
    except (OSError, ValueError):
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in options.allowed_peers)


async def _resolve(place: TcpEndpoint, options: SocketOptions, *, passive: bool) -> Sequence[_Resolved]:
    """The addresses of the place's host; one that is written in numbers is what it says, at no cost."""
    flags = socket.AI_PASSIVE if passive else 0
    found: Sequence[_Found]
    try:
        numeric = flags | socket.AI_NUMERICHOST
        found = socket.getaddrinfo(place.host or None, place.port, options.family, socket.SOCK_STREAM, 0, numeric)
    except (socket.gaierror, UnicodeError):
        _check_family(place.host, options.family)
        found = await _ask_resolver(place, options.family, flags)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _check_family(host: str, family: int) -> None:
    """Raise TransportError for an address of another family than the one that is demanded: no resolver has more."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        if family in _FAMILIES:
            kind, word = _FAMILIES[family]
            raise TransportError(f"{host} is no {kind} address, which {word} demands")


async def _ask_resolver(place: TcpEndpoint, family: int, flags: int) -> Sequence[_Found]:
    try:
        with trio.fail_after(_RESOLVE_LIMIT):
            return await trio.socket.getaddrinfo(place.host, place.port, family, socket.SOCK_STREAM, 0, flags)
    except trio.TooSlowError as error:
        raise TransportError(f"the name {place.host} could not be resolved within {_RESOLVE_LIMIT:.0f} s") from error
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a valid name"
        raise TransportError(f"the name {place.host!r} can't be resolved: {reason}") from error


async def _listen(
    family: socket.AddressFamily, address: tuple[object, ...], port: int, options: SocketOptions
) -> trio.socket.SocketType:
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        if options.reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _apply(sock, options)
        await sock.bind((address[0], port, *address[2:]))
        sock.listen(_DEFAULT_BACKLOG if options.backlog is None else options.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


async def _dial_once(endpoint: TcpEndpoint, options: SocketOptions) -> SocketStream:
    failures: list[str] = []
    refusals: list[bool] = []
    for family, address in await _resolve(endpoint, options, passive=False):
        try:
            return await _connect(family, address, options)
        except TransportError as error:  # there is no source address for this one, which says nothing of the host
            failures.append(f"{address[0]}: {error}")
        except trio.TooSlowError:
            failures.append(f"{address[0]}: no answer within {options.connect_timeout:g} s")
            refusals.append(False)
        except OSError as error:
            failures.append(f"{address[0]}: {os.strerror(error.errno or 0).lower()}")
            refusals.append(error.errno == errno.ECONNREFUSED)
    refused = bool(refusals) and all(refusals)
    raise TransportError(f"{endpoint} can't be reached ({'; '.join(failures)})", refused=refused)


async def _connect(family: socket.AddressFamily, address: tuple[object, ...], options: SocketOptions) -> SocketStream:
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        _apply(sock, options)
        await _bind_source(sock, family, options)
        with trio.move_on_after(options.connect_timeout) as limit:
            await sock.connect(address)
        if limit.cancelled_caught:
            raise trio.TooSlowError
    except BaseException:
        sock.close()
        raise
    return SocketStream(sock)


async def _bind_source(sock: trio.socket.SocketType, family: socket.AddressFamily, options: SocketOptions) -> None:
    if options.bind_host is None:
        return
    source = TcpEndpoint(options.bind_host, 0)  # one source port would be one connection at a time
    for bind_family, address in await _resolve(source, options, passive=True):
        if bind_family == family:
            try:
                await sock.bind(address)
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                raise TransportError(f"the source address {options.bind_host} can't be used, {reason}") from error
            return
    raise TransportError(f"the source address {source} is of another family than the target's")


def _apply(sock: trio.socket.SocketType, options: SocketOptions) -> None:
    """Set the options; on a listener the accepted connections inherit them."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.no_delay)
    _set_keep_alive(sock, options)
    buffers = ((socket.SO_SNDBUF, options.send_buffer), (socket.SO_RCVBUF, options.receive_buffer))
    for option, size in buffers:
        if size is not None:
            sock.setsockopt(socket.SOL_SOCKET, option, size)


def _set_keep_alive(sock: trio.socket.SocketType, options: SocketOptions) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options.keep_alive)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, options.keep_idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, options.keep_interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, options.keep_count)
