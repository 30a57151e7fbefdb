"""Names and addresses: which names an IP address has, those that it resolves to and that resolve back to it."""

from __future__ import annotations

import ipaddress
import socket

import trio

_LIMIT = 5.0  # seconds for both questions; a resolver that is down only costs the names


async def names_of(address: str) -> tuple[str, ...]:
    """Names of an IP address, confirmed forwards and backwards; empty where there are none or nobody answers.

    Only a name that leads back to the address counts: whoever owns the reverse zone may write any name there.
    """
    with trio.move_on_after(_LIMIT):
        candidates = await trio.to_thread.run_sync(_reverse, address, abandon_on_cancel=True)
        return tuple([name for name in candidates if await _leads_to(name, address)])
    return ()


async def addresses_of(name: str) -> tuple[str, ...]:
    """The IP addresses of a name; empty where it has none or nobody answers."""
    with trio.move_on_after(_LIMIT):
        try:
            found = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return ()
        return tuple(dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found))
    return ()


def _reverse(address: str) -> tuple[str, ...]:
    try:
        name, aliases, _ = socket.gethostbyaddr(address)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys((name, *aliases)))


async def _leads_to(name: str, address: str) -> bool:
    wanted = ipaddress.ip_address(address)
    return any(ipaddress.ip_address(found) == wanted for found in await addresses_of(name))
