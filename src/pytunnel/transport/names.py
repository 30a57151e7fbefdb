"""Names and addresses: which names an IP address has, those that it resolves to and that resolve back to it; and how
a name is written where only ASCII is.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass

import idna
import trio

from pytunnel.transport.errors import TransportError

_LIMIT = 5.0  # seconds for all questions about one host; a resolver that is down only costs the names
_TRY_AGAIN = 2  # netdb.h: gethostbyaddr's code for a server that did not answer; Python has no name for it


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Names that DNS confirmed forwards and backwards; `answered` is False where a question had no answer in time."""

    names: tuple[str, ...]
    answered: bool = True


async def confirmed_names(host: str, address: str | None) -> Confirmed:
    """The names of `address`, the IP address that `host` writes, or of all addresses of `host` if it is a name.

    Only a name that leads back to the address counts: whoever owns the reverse zone may write any name there.
    """
    found: list[str] = []
    answered = False
    with trio.move_on_after(_LIMIT), suppress(TimeoutError):
        for each in await _addresses(host) if address is None else (address,):
            await _collect_names(each, found)
        answered = True
    return Confirmed(tuple(dict.fromkeys(found)), answered)


async def names_of(address: str) -> tuple[str, ...]:
    """Names of an IP address, confirmed forwards and backwards; empty where there are none or nobody answers."""
    return (await confirmed_names(address, address)).names


async def addresses_of(name: str) -> tuple[str, ...]:
    """The IP addresses of a name; empty where it has none or nobody answers."""
    with trio.move_on_after(_LIMIT), suppress(TimeoutError):
        return await _addresses(name)
    return ()


async def _collect_names(address: str, found: list[str]) -> None:
    wanted = ipaddress.ip_address(address)
    for name in await trio.to_thread.run_sync(_reverse, address, abandon_on_cancel=True):
        if any(ipaddress.ip_address(each) == wanted for each in await _addresses(name)):
            found.append(name)


async def _addresses(name: str) -> tuple[str, ...]:
    """Raises TimeoutError where the resolver says that nobody answered."""
    try:
        found = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            raise TimeoutError from error
        return ()
    return tuple(dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found))


def _reverse(address: str) -> tuple[str, ...]:
    """Raises TimeoutError where the resolver says that nobody answered."""
    try:
        name, aliases, _ = socket.gethostbyaddr(address)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.herror) and error.errno == _TRY_AGAIN:
            raise TimeoutError from error
        return ()
    return tuple(dict.fromkeys((name, *aliases)))


def ascii_name(host: str) -> str:
    """The host as it stands in requests and certificates, international names encoded; raises TransportError."""
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError as error:
        raise TransportError(f"the name {host!r} can't be resolved: not a valid name") from error
