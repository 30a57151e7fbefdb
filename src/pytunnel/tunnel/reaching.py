"""Reach a connection's target for as long as somebody wants it: its client may leave, the tunnel may end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from pytunnel.transport import hangup, places
from pytunnel.transport.places import Stream
from pytunnel.tunnel.relay import ConnectionFailed

PATIENCE = 20.0
"""Seconds that a target may take after its client said end of file: it may wait for an answer, or have gone."""

_AT_ONCE = 0.2  # seconds; most targets are reached sooner, and a watch costs what a tenth of a handshake does

_LEFT = "left before its target was reached"


class Reaching:
    """One try to reach the target of `client`; `client_ended` is whether it has said end of file meanwhile."""

    def __init__(self, client: Stream) -> None:
        self.client_ended = False
        self._client = client
        self._scope = trio.CancelScope()
        self._given_up = _LEFT
        self._over = False
        self._watch: trio.CancelScope | None = None

    def give_up(self, reason: str) -> None:
        """End the try; `reason` is what the client did, or what was done to it."""
        self._given_up = reason
        self._scope.cancel()

    async def run(self, source: str, reach: Callable[[], Awaitable[Stream]]) -> Stream:
        """What `reach` returns, whose errors are raised as they are; ConnectionFailed where it was given up."""
        try:
            with self._scope:
                return await reach()
        finally:
            self._over = True
            if self._watch is not None:
                self._watch.cancel()
        raise ConnectionFailed(f"{source} {self._given_up}")

    async def watch_client(self) -> None:
        """Give up when the client leaves, until the try is over."""
        connected = places.socket_to_watch(self._client)
        if connected is None or self._over:
            return
        with trio.CancelScope() as self._watch:
            try:
                await hangup.wait_ended(connected)
                self.client_ended = True
                with trio.move_on_after(PATIENCE):
                    await hangup.wait_gone(connected)
            except (OSError, trio.ClosedResourceError):
                return  # no file descriptor is left, so it is as patient as it was told to be; or the client is refused
            self.give_up(_LEFT)


class Lookout:
    """Watches the clients of those targets that take long to reach: one task for all that don't."""

    def __init__(self) -> None:
        self._new: dict[Reaching, None] = {}  # whose clients nobody watches yet
        self._idle = trio.lowlevel.ParkingLot()

    def add(self, reaching: Reaching) -> None:
        """Watch the client if this is still going on a moment later."""
        self._new[reaching] = None
        self._idle.unpark()

    def remove(self, reaching: Reaching) -> None:
        """It is over."""
        self._new.pop(reaching, None)

    async def keep(self) -> None:
        """Go on until cancelled."""
        async with trio.open_nursery() as watches:
            while True:
                if not self._new:
                    await self._idle.park()
                old = tuple(self._new)
                await trio.sleep(_AT_ONCE)
                for reaching in old:
                    if reaching in self._new:
                        self.remove(reaching)
                        watches.start_soon(reaching.watch_client)
