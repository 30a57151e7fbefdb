"""A transfer that runs tells how it is, at a Unix socket in its datadir; `pytunnel status --datadir` asks there.

The socket is for the server's user alone. No donor sends it and no joiner lets it be deleted (pytunnel.sst.rsync). Who
has claimed the datadir may replace what a killed transfer has left. A transfer that can't tell how it is goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from pytunnel import __version__
from pytunnel.sst.progress import Progress
from pytunnel.sst.request import Role
from pytunnel.sst.setup import Setup
from pytunnel.status import server
from pytunnel.status.counters import TunnelCounters, describe_certificates
from pytunnel.status.place import in_directory
from pytunnel.status.snapshot import DRAINING, LISTENING, Snapshot, TransferState, TunnelState
from pytunnel.transport import places
from pytunnel.transport.endpoint import UnixEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.places import Listener
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.tunnel import Tunnel

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Showing:
    """What is told of one transfer; `tunnel` is set as soon as there is one, `observe` is told of its connections."""

    setup: Setup
    progress: Progress
    tunnel: Tunnel | None = None
    counters: TunnelCounters = field(default_factory=TunnelCounters)
    began: float = field(default_factory=time.time)

    def observe(self, connection: Connection) -> None:
        """Count what has happened to a connection."""
        self.counters.observe(connection)

    async def take(self) -> Snapshot:
        """The transfer at this moment."""
        tunnels = () if self.tunnel is None else (self._state(self.tunnel),)
        rate = sum(tunnel.rate_out for tunnel in tunnels)
        return Snapshot(__version__, time.time(), self.began, tunnels, self._transfer(rate))

    def _state(self, tunnel: Tunnel) -> TunnelState:
        role, address = self.setup.request.role, self.setup.request.address
        described = TunnelState(
            name=role.value,
            mode="listen" if role is Role.JOINER else "connect",
            source=str(address) if role is Role.JOINER else "rsync",
            target=tunnel.target,
            state=DRAINING if tunnel.draining else LISTENING,
            certificates=describe_certificates(self.setup.credentials),
        )
        return self.counters.state(described, tunnel)

    def _transfer(self, rate: float) -> TransferState:
        progress, request = self.progress, self.setup.request
        peers = (each.session.peer_name for each in progress.connections if each.session is not None)
        return TransferState(
            role=request.role.value,
            peer=next(peers, "nobody yet" if request.role is Role.JOINER else request.address.host),
            moved=progress.moved,
            total=None if progress.total is None else progress.total.bytes,
            files=None if progress.total is None else progress.total.files,
            rate=rate,
            seconds=trio.current_time() - progress.began,
        )


@asynccontextmanager
async def shown(showing: Showing) -> AsyncIterator[None]:
    """Tell of the transfer during the block. What the block raises comes out in an exception group."""
    with in_directory(showing.setup.request.datadir) as endpoint:
        listeners = await _listen(endpoint)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(showing.counters.keep_rates)
            nursery.start_soon(server.serve, listeners, showing.take)
            yield
            nursery.cancel_scope.cancel()


async def _listen(endpoint: UnixEndpoint) -> Sequence[Listener]:
    try:
        return await places.open_listeners(endpoint, SocketOptions())
    except TransportError as error:
        log.warning("nobody can ask how the transfer is: %s", error)
        return []
