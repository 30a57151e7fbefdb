"""The errors of the transport layer."""

from __future__ import annotations

import trio

from pytunnel.errors import PytunnelError


class TransportError(PytunnelError):
    """A place that can't be listened at or reached.

    `port_taken` tells the one cause that has a code of its own; `refused` that the host answered: nobody listens there.
    """

    exit_code = 1

    def __init__(self, message: str, *, port_taken: bool = False, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.port_taken = port_taken


class ProgramFailed(TransportError):
    """A program whose end was no success, so that what it said may not be all."""


class WebSocketError(TransportError):
    """A client that asked for no WebSocket of ours, or an end that broke the rules of one."""


class SinkBroke(trio.BrokenResourceError):
    """Writing failed, as opposed to reading, where one call does both."""
