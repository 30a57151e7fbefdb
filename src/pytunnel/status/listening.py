"""Where the status is told: loopback or a Unix socket, unless somebody asked for more."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence

from pytunnel.status.address import StatusEndpoint
from pytunnel.transport import places
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.places import Listener

log = logging.getLogger(__name__)


async def open_status(endpoint: StatusEndpoint) -> Sequence[Listener]:
    """Listen at the address, at a Unix socket for this user alone. Raises TransportError."""
    listeners = await places.open_listeners(endpoint, SocketOptions())
    bound = [place for place in map(places.bound_at, listeners) if place is not None]
    for place in bound:
        if not ipaddress.ip_address(place.host.partition("%")[0]).is_loopback:
            text = "status at %s can be read by everyone who reaches this address: names of peers, amounts of data"
            log.warning(text, place)
    log.info("status at %s", ", ".join(map(str, bound)) or endpoint)
    return listeners
