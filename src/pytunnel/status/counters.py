"""What one tunnel of this process has done so far: its observer counts, `state` gives the moment's value."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import trio
from cryptography import x509

from pytunnel.status.snapshot import (
    BOUNDS,
    SHOWN,
    CertificateState,
    ConnectionState,
    Handshakes,
    Outcome,
    TunnelState,
)
from pytunnel.tls.credentials import Credentials, describe_subject
from pytunnel.tls.errors import HandshakeError, PeerRejected, TlsError, TruncatedStream
from pytunnel.tls.identity import MALFORMED
from pytunnel.transport.errors import ProgramFailed, TransportError, WebSocketError
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.relay import ConnectionFailed, IdleTooLong
from pytunnel.tunnel.tunnel import Tunnel

_INTERVAL = 1.0  # seconds between two marks
_MARKS = 5  # a rate is that of so many intervals
_MOST_CERTIFICATES = 200  # of trusted ones, those that expire first: a directory may hold a whole system's

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (PeerRejected, "untrusted"),
    (HandshakeError, "handshake"),
    (WebSocketError, "websocket"),
    (ProgramFailed, "program"),
    (TransportError, "unreachable"),
    (TruncatedStream, "truncated"),
    (TlsError, "tls"),
    (trio.BrokenResourceError, "broken"),
    (OSError, "system"),
    (IdleTooLong, "idle"),
    (ConnectionFailed, "refused"),  # by ourselves: a target that is not allowed, or one that has its only connection
)


def reason_of(error: Exception | None) -> str:
    """One word for why a connection failed, from a short list: it is a label of the metrics."""
    if isinstance(error, ConnectionFailed) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return next((word for kind, word in _REASONS if isinstance(error, kind)), "other")


class TunnelCounters:
    """The counters of one tunnel; `observe` is told of each connection by the tunnel.

    A connection is known here from its handshake to its end. `reloads` and `reloads_failed` are for whoever reads the
    certificate again.
    """

    def __init__(self) -> None:
        self._secured: dict[Connection, str] = {}  # the open ones, with their peers' names
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._handshakes = [0] * (len(BOUNDS) + 1)
        self._handshake_seconds = 0.0
        self._ended_out = self._ended_in = 0
        self._marks: deque[_Mark] = deque(maxlen=_MARKS)
        self.reloads = 0
        self.reloads_failed = 0

    def observe(self, connection: Connection) -> None:
        """Count what has happened to a connection: its handshake, its end."""
        session = connection.session
        if session is not None and connection not in self._secured:
            self._secured[connection] = session.peer_name
            self._handshakes[bisect_left(BOUNDS, session.seconds)] += 1
            self._handshake_seconds += session.seconds
        if not connection.ended:
            return
        self._secured.pop(connection, None)
        self._ended_out += connection.traffic.outward
        self._ended_in += connection.traffic.inward
        if connection.failure is None:
            self._outcomes["completed", ""] += 1
        else:
            self._outcomes["failed", reason_of(connection.error)] += 1

    async def keep_rates(self) -> None:
        """Note every second what was carried, so that `state` knows rates; goes on until cancelled."""
        while True:
            self._marks.append(self._mark())
            await trio.sleep(_INTERVAL)

    def state(self, described: TunnelState, tunnel: Tunnel) -> TunnelState:
        """`described`, which says what `tunnel` is, with all that was counted."""
        now = self._mark()
        past = self._marks[0] if self._marks else now
        refused = {("refused", reason): count for reason, count in tunnel.turned_away.items()}
        rate_out, rate_in = _rates(past.total, now.total, now.time - past.time)
        return replace(
            described,
            open=max(tunnel.open, len(self._secured)),
            outcomes=tuple(Outcome(*key, count) for key, count in sorted({**self._outcomes, **refused}.items())),
            bytes_out=now.total[0],
            bytes_in=now.total[1],
            rate_out=rate_out,
            rate_in=rate_in,
            handshakes=Handshakes(tuple(self._handshakes), self._handshake_seconds),
            reloads=self.reloads,
            reloads_failed=self.reloads_failed,
            connections=tuple(self._connections(now, past, described.target, tunnel)),
        )

    def _mark(self) -> _Mark:
        carried = {each: (each.traffic.outward, each.traffic.inward) for each in self._secured}
        outward = self._ended_out + sum(out for out, _ in carried.values())
        inward = self._ended_in + sum(back for _, back in carried.values())
        return _Mark(trio.current_time(), (outward, inward), carried)

    def _connections(self, now: _Mark, past: _Mark, target: str, tunnel: Tunnel) -> Iterator[ConnectionState]:
        """The open ones that carried most; `target` is shown for the tunnel's own, which may not be shown in full."""
        most = heapq.nlargest(SHOWN, now.carried, key=lambda each: sum(now.carried[each]))
        for each in most:
            yield self._connection(each, now, past, target if each.target == tunnel.target else each.target)

    def _connection(self, connection: Connection, now: _Mark, past: _Mark, target: str) -> ConnectionState:
        outward, inward = now.carried[connection]
        seconds = now.time - connection.began
        rate_out, rate_in = _rates(
            past.carried.get(connection, (0, 0)), (outward, inward), min(seconds, now.time - past.time)
        )
        session = connection.session
        return ConnectionState(
            source=connection.source,
            target=target,
            peer=self._secured[connection],
            tls=session.version if session is not None else "",
            cipher=session.cipher if session is not None else "",
            bytes_out=outward,
            bytes_in=inward,
            rate_out=rate_out,
            rate_in=rate_in,
            seconds=round(seconds, 3),
        )


class _Mark:
    """What was carried up to one moment of trio's clock: by the tunnel, and by each connection that was open."""

    __slots__ = ("carried", "time", "total")

    def __init__(self, time: float, total: tuple[int, int], carried: dict[Connection, tuple[int, int]]) -> None:
        self.time = time
        self.total = total
        self.carried = carried


def _rates(before: tuple[int, int], after: tuple[int, int], seconds: float) -> tuple[float, float]:
    if seconds <= 0:
        return 0.0, 0.0
    return round((after[0] - before[0]) / seconds, 1), round((after[1] - before[1]) / seconds, 1)


def describe_certificates(credentials: Credentials) -> tuple[CertificateState, ...]:
    """Our own certificate, and those that we trust, with their times."""
    trusted = sorted(set(filter(_is_understood, credentials.trusted)), key=lambda each: each.not_valid_after_utc)
    return (
        *_describe([credentials.certificate], own=True),
        *_describe(trusted[:_MOST_CERTIFICATES], own=False),
    )


def _is_understood(certificate: x509.Certificate) -> bool:
    """A bundle may hold certificates that break X.509's rules: trusted as OpenSSL reads them, they can't be shown."""
    try:
        return all((describe_subject(certificate), certificate.not_valid_before_utc, certificate.not_valid_after_utc))
    except MALFORMED:
        return False


def _describe(certificates: Iterable[x509.Certificate], *, own: bool) -> Iterable[CertificateState]:
    for certificate in certificates:
        yield CertificateState(
            subject=describe_subject(certificate),
            serial=f"{certificate.serial_number:x}",
            own=own,
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
        )
