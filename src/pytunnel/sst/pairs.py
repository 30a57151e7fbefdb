"""The connection to each of the joiner's rsync processes: two sockets that nobody else can reach or listen to."""

from __future__ import annotations

import array
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import trio

from pytunnel.transport import process

log = logging.getLogger(__name__)

Pair = tuple[socket.socket, socket.socket]

_PROGRAM = Path(__file__).with_name("loopback.py")
_ANSWER = 5.0  # seconds until a pair comes, of a program that starts on a busy host
_REASON = 512  # bytes


class Pairs:
    """Makes pairs of TCP sockets in a network of their own (pytunnel.sst.loopback), Unix pairs where there is none."""

    def __init__(self, program: process.ProcessStream) -> None:
        self._program = program
        self._lock = trio.Lock()
        self._has_network = True

    async def make(self) -> Pair:
        """Two connected sockets. Raises OSError where this process can have no more."""
        async with self._lock:
            if self._has_network:
                said, pair = await self._ask()
                if pair is not None:
                    return pair
                self._has_network = False
                log.info("no network namespace for rsync (%s): it has Unix sockets, at more processor time", said)
        return socket.socketpair()

    async def _ask(self) -> tuple[str, Pair | None]:
        """A pair, or words instead of it."""
        control = self._program.connection.socket
        with trio.move_on_after(_ANSWER):
            with suppress(OSError):  # it may have said why it can't, and ended
                await control.send(b"?")
            try:
                said, ancillary, _, _ = await control.recvmsg(_REASON, socket.CMSG_SPACE(8), socket.MSG_CMSG_CLOEXEC)
            except OSError as error:
                return str(error), None
            ends = [socket.socket(fileno=descriptor) for descriptor in _descriptors(ancillary)]
            if len(ends) == 2:
                return "", (ends[0], ends[1])
            for end in ends:
                end.close()  # the other one found no room in this process
            return said.decode(errors="replace") or "their program has ended", None
        return f"no answer within {_ANSWER:g} s", None


@asynccontextmanager
async def pairs() -> AsyncIterator[Pairs]:
    """Pairs for the duration of a block; the program that makes them ends with it, or with this process.

    Raises TransportError where no program can be started.
    """
    command = [sys.executable, "-I", "-S", str(_PROGRAM)]
    async with aclosing(await process.spawn(command, stderr=subprocess.DEVNULL)) as program:
        yield Pairs(program)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()
