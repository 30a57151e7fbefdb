"""A bad network as a program: it carries TCP connections and cuts, ends, stalls, delays or slows them at chosen bytes.

    python -m tests.support.faulty_relay FROM_HOST:PORT TO_HOST:PORT FAULT...

A FAULT is `cut@BYTES` (reset on both sides), `end@BYTES` (an end of file on both sides), `stall@BYTES` (open, but
silent), each of them for one connection: the first that carries so many bytes to TO suffers the first fault, the next
that does the second. `every@BYTES` cuts each second connection that carries so many, from the second on, for ever.
`slow=BYTES` (a second) and `delay=SECONDS` (for each piece) are for all connections. Its standard output tells the port
that it listens at.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

_PIECE = 64 * 1024
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Fault:
    """One connection's misfortune, after so many bytes of it."""

    kind: str
    at: int


@dataclass(slots=True)
class FaultyRelay:
    """What is still to go wrong, and what always does."""

    faults: list[Fault] = field(default_factory=list)
    slow: float | None = None
    delay: float = 0.0
    every: int | None = None
    accepted: int = 0

    async def carry(self, target: tuple[str, int], near: trio.SocketStream) -> None:
        """One connection, until both its ends have closed it or a fault has ended it."""
        try:
            far = await trio.open_tcp_stream(*target)
        except OSError:
            _reset(near)  # nobody listens: a relay can't refuse what it has accepted
            return
        async with near, far, trio.open_nursery() as nursery:
            fate = trio.Event()
            self.accepted += 1
            spared = self.every is None or self.accepted % 2 == 1
            faults = self.faults if spared else [Fault("cut", self.every or 0)]
            nursery.start_soon(self._copy, far, near, fate, None)
            nursery.start_soon(self._copy, near, far, fate, (nursery.cancel_scope, faults))

    async def _copy(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        fate: trio.Event,
        suffering: tuple[trio.CancelScope, list[Fault]] | None,
    ) -> None:
        """Copy one way; where `suffering` is given, this way's bytes decide over the connection, and its faults."""
        carried = 0
        try:
            while data := await source.receive_some(_PIECE):
                await trio.sleep(self.delay + (len(data) / self.slow if self.slow else 0.0))
                if fate.is_set():
                    await trio.sleep_forever()
                fault = _next_within(suffering[1], carried + len(data)) if suffering is not None else None
                await sink.send_all(data if fault is None else data[: fault.at - carried])
                carried += len(data)
                if fault is not None and suffering is not None:
                    fate.set()
                    await _suffer(fault.kind, (source, sink), suffering[0])
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            _reset(source)
            _reset(sink)


def _next_within(faults: list[Fault], carried: int) -> Fault | None:
    """The next fault, if a connection that has carried so much meets it; it meets no other one then."""
    return faults.pop(0) if faults and carried >= faults[0].at else None


async def _suffer(kind: str, ends: tuple[trio.SocketStream, ...], whole: trio.CancelScope) -> None:
    if kind == "cut":
        for end in ends:
            _reset(end)
    if kind != "stall":
        whole.cancel()
    await trio.sleep_forever()


@contextmanager
def faulty_relay(
    target: tuple[str, int], *faults: str, at: tuple[str, int] = ("127.0.0.1", 0), prefix: Sequence[str] = ()
) -> Iterator[int]:
    """The relay to `target` as a process of its own, started by way of the command `prefix`; its port."""
    words = [f"{at[0]}:{at[1]}", f"{target[0]}:{target[1]}", *faults]
    command = [*prefix, sys.executable, "-m", "tests.support.faulty_relay", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT, env=os.environ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _reset(stream: trio.SocketStream) -> None:
    if stream.socket.fileno() >= 0:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()


def _parse_fault(text: str) -> Fault:
    kind, _, at = text.partition("@")
    if kind not in ("cut", "end", "stall", "every"):
        raise SystemExit(f"{text!r} is no fault")
    return Fault(kind, int(at))


def _parse_place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


async def _serve(here: tuple[str, int], there: tuple[str, int], words: Sequence[str]) -> None:
    always = dict(word.split("=") for word in words if "=" in word)
    faults = [_parse_fault(word) for word in words if "=" not in word]
    slow = float(always["slow"]) if "slow" in always else None
    every = next((fault.at for fault in faults if fault.kind == "every"), None)
    once = [fault for fault in faults if fault.kind != "every"]
    relay = FaultyRelay(once, slow, float(always.get("delay", 0)), every)
    (listener, *_) = await trio.open_tcp_listeners(here[1], host=here[0])
    print(listener.socket.getsockname()[1], flush=True)
    await trio.serve_listeners(partial(relay.carry, there), [listener])


if __name__ == "__main__":
    trio.run(_serve, _parse_place(sys.argv[1]), _parse_place(sys.argv[2]), sys.argv[3:])
