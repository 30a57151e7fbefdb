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
    """One try to reach a target; `client_ended` is whether the client has said end of file meanwhile."""

    def __init__(self) -> None:
        self.client_ended = False
        self._scope = trio.CancelScope()
        self._given_up = _LEFT

    def give_up(self, reason: str) -> None:
        """End the try; `reason` is what the client did, or what was done to it."""
        self._given_up = reason
        self._scope.cancel()

    async def run(self, client: Stream, source: str, reach: Callable[[], Awaitable[Stream]]) -> Stream:
        """What `reach` returns, whose errors are raised as they are; ConnectionFailed where it was given up."""
        reached: Stream | None = None
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, client)
            try:
                with self._scope:
                    reached = await reach()
            except Exception as error:  # raised here, it would come out of the nursery as a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if reached is None:
            raise ConnectionFailed(f"{source} {self._given_up}")
        return reached

    async def _watch(self, client: Stream) -> None:
        connected = places.socket_to_watch(client)
        if connected is None:
            return
        await trio.sleep(_AT_ONCE)
        try:
            await hangup.wait_ended(connected)
            self.client_ended = True
            with trio.move_on_after(PATIENCE):
                await hangup.wait_gone(connected)
        except (OSError, trio.ClosedResourceError):
            return  # no file descriptor is left, so it is as patient as it was told to be; or the client was refused
        self.give_up(_LEFT)
