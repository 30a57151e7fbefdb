"""One worker: a process that accepts from listeners which its supervisor opened, and ends when that one has gone.

It is started with its end of the socket pair as standard input, and reads there what it has to do.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import sys
from dataclasses import dataclass

import trio

from pytunnel.errors import PytunnelError
from pytunnel.service import running
from pytunnel.service.plan import ServicePlan
from pytunnel.service.running import Share
from pytunnel.service.workers.frames import read_frame, receive_frame, send_frame
from pytunnel.status.server import Take
from pytunnel.status.snapshot import Snapshot, to_json
from pytunnel.system import logs
from pytunnel.transport.sockets import SocketStream

log = logging.getLogger(__name__)

READY, STATUS = b"ready", b"status"


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker does: `descriptors` are the listening sockets that it inherited, for each tunnel of the plan."""

    plan: ServicePlan
    descriptors: tuple[tuple[int, ...], ...]
    debug: bool


def command() -> list[str]:
    """The command line of a worker; pytunnel is found where this process found it, installed or not."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from pytunnel.service.workers.worker import main; main()"
    return [sys.executable, "-c", code]


def main() -> None:
    """Entry point of the process."""
    control = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    _close_standard_input()
    try:
        order = pickle.loads(read_frame(control))  # noqa: S301 - by our parent, over a pair that it alone has
    except EOFError:
        sys.exit(1)  # the supervisor has gone before it told us anything
    logs.set_up(order.plan.log_format, debug=order.debug)
    try:
        sys.exit(trio.run(_run, order, control))
    except PytunnelError as error:  # its files were good when the supervisor read them, and are no more
        log.error("%s", error)
        sys.exit(error.exit_code)


def _close_standard_input() -> None:
    """Programs that we start must not hold the socket pair open."""
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted, not a path
        os.dup2(nothing.fileno(), 0)


async def _run(order: Order, control: socket.socket) -> int:
    stream = SocketStream(trio.socket.from_stdlib_socket(control))
    return await running.run(order.plan, Share(order.descriptors, _Supervised(stream)))


class _Supervised:
    """The worker's side of the conversation."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream

    async def follow(self, take: Take) -> None:
        """Say that we accept, and how things are whenever we are asked; returns when the supervisor has gone."""
        try:
            await send_frame(self._stream, READY)
            while await receive_frame(self._stream) == STATUS:
                await send_frame(self._stream, _encode(await take()))
        except trio.BrokenResourceError:
            return


def _encode(snapshot: Snapshot) -> bytes:
    return json.dumps(to_json(snapshot)).encode()
