"""A stream that another protocol carries, as a WebSocket does: what `places` knows of one without loading it."""

from __future__ import annotations

from abc import abstractmethod

import trio


class CarriedStream(trio.abc.Stream):
    """A stream inside of another connection, `carrier`: what is closed, adjusted and watched is that one's socket."""

    def __init__(self, carrier: trio.abc.Stream) -> None:
        self.carrier = carrier

    @abstractmethod
    async def keep_alive(self) -> None:
        """Do what the stream needs besides being read and written; returns when that is over."""


class CarriedListener(trio.abc.Listener[CarriedStream]):
    """Accepts such streams at `socket`."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self.socket = socket
