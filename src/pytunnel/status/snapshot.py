"""How a process is at one moment, as one plain value: it can be shown, sent elsewhere as JSON, and added to others.

Counters only grow while a process lives, so the sum of several processes' snapshots is that of the service they make.
Nothing here is secret: no path of a key, no argument of a program, no word of an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

LISTENING, DRAINING, ENDED = "listening", "draining", "ended"

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the classes in which handshakes are counted, in seconds; one more class is for all above."""

SHOWN = 200
"""How many connections a tunnel's snapshot tells of one by one: those that carried most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many connections ended in one way; `reason` is empty where they ended well."""

    outcome: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Handshakes:
    """How long TLS handshakes took: `counts` for each class of BOUNDS and for all above, their `seconds` together."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0

    def __add__(self, other: Handshakes) -> Handshakes:
        counts = tuple(ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True))
        return Handshakes(counts, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class CertificateState:
    """A certificate that is in use. `own` is what we show, others are trusted. Times are Unix times, in seconds."""

    subject: str
    serial: str
    own: bool
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """An open connection: bytes, bytes a second, seconds since it was accepted; before its handshake no peer."""

    source: str
    target: str
    peer: str
    tls: str
    cipher: str
    bytes_out: int
    bytes_in: int
    rate_out: float
    rate_in: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TunnelState:
    """One tunnel. `out` is from the side that is accepted to the one that is dialled; rates are bytes a second."""

    name: str
    mode: str
    source: str
    target: str
    state: str
    open: int = 0
    outcomes: tuple[Outcome, ...] = ()
    bytes_out: int = 0
    bytes_in: int = 0
    rate_out: float = 0.0
    rate_in: float = 0.0
    handshakes: Handshakes = Handshakes()
    reloads: int = 0
    reloads_failed: int = 0
    certificates: tuple[CertificateState, ...] = ()
    connections: tuple[ConnectionState, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferState:
    """A state snapshot transfer: bytes moved, of how many and of how many files (None: not known yet)."""

    role: str
    peer: str
    moved: int
    total: int | None
    files: int | None
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A process, or several that are one service. `taken` and `began` are Unix times, in seconds."""

    version: str
    taken: float
    began: float
    tunnels: tuple[TunnelState, ...]
    transfer: TransferState | None = None


def unreadiness(snapshot: Snapshot) -> list[str]:
    """Why no new connection should be brought here; empty if there is no reason."""
    return [reason for tunnel in snapshot.tunnels for reason in _unreadiness(tunnel, snapshot.taken)]


def _unreadiness(tunnel: TunnelState, now: float) -> Iterable[str]:
    if tunnel.state != LISTENING:
        yield f"{tunnel.name}: {tunnel.state}"
    for certificate in tunnel.certificates:
        if certificate.own and now >= certificate.not_after:
            yield f"{tunnel.name}: the certificate {certificate.subject} has expired"
        if certificate.own and now < certificate.not_before:
            yield f"{tunnel.name}: the certificate {certificate.subject} is not valid yet"


def merge(snapshots: Sequence[Snapshot]) -> Snapshot:
    """What several processes with the same tunnels are together; raises ValueError without any."""
    if not snapshots:
        raise ValueError("there is no snapshot to merge")
    by_name: dict[str, list[TunnelState]] = {}
    for snapshot in snapshots:
        for tunnel in snapshot.tunnels:
            by_name.setdefault(tunnel.name, []).append(tunnel)
    return Snapshot(
        version=snapshots[0].version,
        taken=max(snapshot.taken for snapshot in snapshots),
        began=min(snapshot.began for snapshot in snapshots),
        tunnels=tuple(map(_merge_tunnels, by_name.values())),
        transfer=next((snapshot.transfer for snapshot in snapshots if snapshot.transfer is not None), None),
    )


def _merge_tunnels(states: Sequence[TunnelState]) -> TunnelState:
    """The sum; a state that is not "listening" in one of them is that of all."""
    counted: dict[tuple[str, str], int] = {}
    for each in (outcome for state in states for outcome in state.outcomes):
        counted[each.outcome, each.reason] = counted.get((each.outcome, each.reason), 0) + each.count
    return replace(
        states[0],
        state=next((state.state for state in states if state.state != LISTENING), LISTENING),
        open=sum(state.open for state in states),
        outcomes=tuple(Outcome(*key, count) for key, count in sorted(counted.items())),
        bytes_out=sum(state.bytes_out for state in states),
        bytes_in=sum(state.bytes_in for state in states),
        rate_out=sum(state.rate_out for state in states),
        rate_in=sum(state.rate_in for state in states),
        handshakes=sum((state.handshakes for state in states), Handshakes()),
        reloads=sum(state.reloads for state in states),
        reloads_failed=sum(state.reloads_failed for state in states),
        certificates=tuple(dict.fromkeys(each for state in states for each in state.certificates)),
        connections=most_active(each for state in states for each in state.connections),
    )


def counted(snapshot: Snapshot) -> Snapshot:
    """What a process that has ended leaves to the sum: its counters, and nothing of the moment."""
    return replace(snapshot, tunnels=tuple(map(_counted, snapshot.tunnels)), transfer=None)


def _counted(state: TunnelState) -> TunnelState:
    return replace(state, state=LISTENING, open=0, rate_out=0.0, rate_in=0.0, certificates=(), connections=())


def most_active(connections: Iterable[ConnectionState]) -> tuple[ConnectionState, ...]:
    """Those that carried most, at most SHOWN, the largest first."""
    return tuple(sorted(connections, key=lambda each: -(each.bytes_out + each.bytes_in))[:SHOWN])


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as what `json.dumps` takes."""
    return asdict(snapshot)


def from_json(document: object) -> Snapshot:
    """The snapshot that `to_json` wrote, perhaps in another process; unknown names are passed over.

    Raises ValueError where it is none.
    """
    try:
        top = _mapping(document)
        transfer = top.get("transfer")
        return _build(
            Snapshot,
            top,
            tunnels=tuple(_tunnel(_mapping(each)) for each in top["tunnels"]),
            transfer=None if transfer is None else _build(TransferState, _mapping(transfer)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no status of pytunnel's ({error})") from error


def _tunnel(document: Mapping[str, Any]) -> TunnelState:
    handshakes = _mapping(document["handshakes"])
    return _build(
        TunnelState,
        document,
        outcomes=tuple(_build(Outcome, _mapping(each)) for each in document["outcomes"]),
        handshakes=Handshakes(tuple(map(int, handshakes["counts"])), float(handshakes["seconds"])),
        certificates=tuple(_build(CertificateState, _mapping(each)) for each in document["certificates"]),
        connections=tuple(_build(ConnectionState, _mapping(each)) for each in document["connections"]),
    )


_Built = TypeVar("_Built", Snapshot, TunnelState, TransferState, Outcome, CertificateState, ConnectionState)


def _build(kind: type[_Built], document: Mapping[str, Any], **parts: object) -> _Built:
    values: dict[str, Any] = dict(parts)
    for field in fields(kind):
        if field.name not in parts:
            values[field.name] = _scalar(document[field.name], field.type)
    return kind(**values)


def _scalar(value: object, annotation: object) -> object:
    """The value, if it is of the field's type; raises TypeError."""
    possible = _SCALARS[str(annotation)]
    if not isinstance(value, possible) or (isinstance(value, bool) and bool not in possible):
        raise TypeError(f"expected {annotation}")
    return value


_SCALARS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "float": (float, int),
    "int": (int,),
    "int | None": (int, type(None)),
    "str": (str,),
}


def _mapping(document: object) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise TypeError("expected a JSON object")
    return document
