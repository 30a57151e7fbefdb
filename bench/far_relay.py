"""A long way as a program: TCP connections take time to cross it, share its bandwidth, and fill a window each.

    python -m bench.far_relay PORT TARGET_PORT DELAY_SECONDS BYTES_A_SECOND WINDOW_BYTES

A byte arrives DELAY after it was sent. A connection has at most WINDOW bytes that are under way or whose arrival the
sender can't know yet, as TCP has it: alone it moves no more than a window for each round trip.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial

import trio

_PIECE = 16 * 1024  # bytes
_HOST = "127.0.0.1"


@dataclass(slots=True)
class Way:
    """One direction, shared by all connections. `free` is when the bytes before ours have left, in trio's time."""

    delay: float
    bandwidth: float
    free: float = 0.0

    def send(self, size: int) -> float:
        """When so many bytes, sent now, arrive."""
        self.free = max(self.free, trio.current_time()) + size / self.bandwidth
        return self.free + self.delay


@dataclass(slots=True)
class Window:
    """The bytes of one connection and direction that its sender must wait for."""

    size: int
    taken: int = 0
    freed: trio.Event = field(default_factory=trio.Event)

    async def take(self, size: int) -> None:
        """Wait until so many bytes more may be under way."""
        while self.taken + size > self.size:
            await self.freed.wait()
        self.taken += size

    def give_back(self, size: int) -> None:
        """The sender knows now that they have arrived."""
        self.taken -= size
        self.freed.set()
        self.freed = trio.Event()


@dataclass(frozen=True, slots=True)
class Relay:
    """Both directions, and the window that each connection has in each."""

    there: Way
    back: Way
    window: int

    async def carry(self, target_port: int, near: trio.SocketStream) -> None:
        """One connection until both ends have ended it."""
        far = await trio.open_tcp_stream(_HOST, target_port)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, near, far, self.there)
            nursery.start_soon(self._copy, far, near, self.back)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, way: Way) -> None:
        window = Window(self.window)
        sending, receiving = trio.open_memory_channel[tuple[float, bytes]](self.window)
        async with trio.open_nursery() as nursery, sending:
            nursery.start_soon(_deliver, receiving, sink, way, window)
            try:
                while data := bytes(await source.receive_some(_PIECE)):
                    await window.take(len(data))
                    await sending.send((way.send(len(data)), data))
            except trio.BrokenResourceError:
                nursery.cancel_scope.cancel()
            await sending.send((way.send(0), b""))


async def _deliver(
    receiving: trio.MemoryReceiveChannel[tuple[float, bytes]], sink: trio.SocketStream, way: Way, window: Window
) -> None:
    async with trio.open_nursery() as acknowledgements:
        async for arrival, data in receiving:
            await trio.sleep_until(arrival)
            try:
                await (sink.send_all(data) if data else sink.send_eof())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break  # the other direction sees it too
            acknowledgements.start_soon(_acknowledge, way.delay, window, len(data))


async def _acknowledge(delay: float, window: Window, size: int) -> None:
    await trio.sleep(delay)
    window.give_back(size)


async def serve(port: int, target_port: int, delay: float, bandwidth: float, window: int) -> None:
    """Carry connections until the process is ended."""
    relay = Relay(Way(delay, bandwidth), Way(delay, bandwidth), window)
    await trio.serve_tcp(partial(relay.carry, target_port), port, host=_HOST)


def main() -> None:
    """Serve as the five arguments say."""
    port, target_port, delay, bandwidth, window = sys.argv[1:]
    trio.run(serve, int(port), int(target_port), float(delay), float(bandwidth), int(window))


if __name__ == "__main__":
    main()
