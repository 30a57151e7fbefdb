"""One connection as a value: for logs, for counters, and for whoever follows progress."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from pytunnel.tls.session import Session
from pytunnel.tunnel.relay import Traffic

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Connection:
    """One connection, while it lives and afterwards: for logs and for whoever follows progress.

    `error` is what `failure` tells in words. `refused`: the peer presented a certificate that we don't trust.
    `hushed`: it failed before it was secured, as too many others did; observers leave it out of the log, and the
    tunnel writes how many there were.
    """

    source: str
    target: str
    traffic: Traffic
    session: Session | None = None
    failure: str | None = None
    error: Exception | None = field(default=None, repr=False)
    ended: bool = False
    refused: bool = False
    hushed: bool = False
    began: float = field(default_factory=trio.current_time)


Observer = Callable[[Connection], None]
"""Is told of a connection when it has its session, and again when it has ended."""


def log_end(connection: Connection, *, failure_level: int = logging.WARNING) -> None:
    """An observer that writes one line for a connection that has ended: who, how much, how long, how.

    `failure_level` is that of a failure; it is ERROR where there is no other connection.
    """
    if not connection.ended or connection.hushed:
        return
    seconds = trio.current_time() - connection.began
    traffic, session = connection.traffic, connection.session
    fields: dict[str, object] = {
        "source": connection.source,
        "target": connection.target,
        "bytes_out": traffic.outward,
        "bytes_in": traffic.inward,
        "seconds": round(seconds, 3),
    }
    secured = "not secured"
    if session is not None:
        peer = session.peer_name  # read from the certificate each time
        fields |= {"tls": session.version, "cipher": session.cipher, "peer": peer}
        secured = f"{session.version} {session.cipher} with {peer}"
    if connection.failure is not None:
        fields["error"] = connection.failure
        words = (connection.source, connection.target, connection.failure)
        log.log(failure_level, "%s -> %s: %s", *words, extra={"fields": fields})
        return
    log.info(
        "%s -> %s ended: %d bytes out, %d in, %.1f s, %s",
        connection.source,
        connection.target,
        traffic.outward,
        traffic.inward,
        seconds,
        secured,
        extra={"fields": fields},
    )
