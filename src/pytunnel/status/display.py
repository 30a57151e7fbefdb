"""A snapshot as people read it: tables for a terminal, the same as plain text elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table

from pytunnel.sst.manifest import Amount
from pytunnel.sst.progress import describe, size
from pytunnel.status.fitting import FittingTable, safe_text
from pytunnel.status.snapshot import Snapshot, TransferState, TunnelState, unreadiness

_BAR = 60  # columns


def draw(snapshot: Snapshot) -> RenderableType:
    """The whole status, for a console of rich."""
    return Group(*_parts(snapshot))


def _parts(snapshot: Snapshot) -> Iterator[RenderableType]:
    reasons = unreadiness(snapshot)
    age = duration(snapshot.taken - snapshot.began)
    yield safe_text(f"pytunnel {snapshot.version}, running for {age}: {'ready' if not reasons else 'NOT READY'}")
    yield from (safe_text(f"  {reason}", "red") for reason in reasons)
    if snapshot.transfer is not None:
        yield from _transfer(snapshot.transfer)
    yield from (safe_text(""), _tunnels(snapshot))
    if any(tunnel.connections for tunnel in snapshot.tunnels):
        yield from (safe_text(""), _connections(snapshot))


def _transfer(transfer: TransferState) -> Iterator[RenderableType]:
    verb = "received" if transfer.role == "joiner" else "sent"
    known = transfer.total is not None and transfer.files is not None
    total = Amount(transfer.total or 0, transfer.files or 0) if known else None
    text = describe(verb, transfer.moved, total, transfer.rate)
    yield safe_text(f"state transfer as {transfer.role} with {transfer.peer}, for {duration(transfer.seconds)}: {text}")
    if total is not None and total.bytes:
        line = Table.grid()  # a bar alone has no end of line
        line.add_row(ProgressBar(total=total.bytes, completed=min(transfer.moved, total.bytes), width=_BAR))
        yield line


def _tunnels(snapshot: Snapshot) -> FittingTable:
    rows = [
        (
            tunnel.name,
            tunnel.source,
            tunnel.target,
            tunnel.state,
            str(tunnel.open),
            *(str(_ended(tunnel, outcome)) for outcome in ("completed", "failed", "refused")),
            _traffic(tunnel.bytes_out, tunnel.rate_out),
            _traffic(tunnel.bytes_in, tunnel.rate_in),
            _expiry(tunnel),
        )
        for tunnel in snapshot.tunnels
    ]
    places, counts = ("from", "to", "state"), ("open", "done", "failed", "refused", "out", "in")
    return FittingTable(
        columns=("tunnel", *places, *counts, "valid until"),
        rows=rows,
        parts=(("tunnel", *places, "valid until"), ("tunnel", *counts)),
        expendable=("refused", "valid until", "in"),
    )


def _ended(tunnel: TunnelState, outcome: str) -> int:
    return sum(each.count for each in tunnel.outcomes if each.outcome == outcome)


def _expiry(tunnel: TunnelState) -> str:
    moments = [each.not_after for each in tunnel.certificates if each.own]
    if not moments:
        return "none"
    return f"{datetime.datetime.fromtimestamp(min(moments), datetime.UTC):%Y-%m-%d}"


def _connections(snapshot: Snapshot) -> FittingTable:
    columns = ("connection", "peer", "from", "to", "cipher", "out", "in", "time")
    rows = [
        (
            tunnel.name,
            each.peer,
            each.source,
            each.target,
            f"{each.tls} {each.cipher}",
            _traffic(each.bytes_out, each.rate_out),
            _traffic(each.bytes_in, each.rate_in),
            duration(each.seconds),
        )
        for tunnel in snapshot.tunnels
        for each in tunnel.connections
    ]
    return FittingTable(columns, rows, parts=(columns,), expendable=("cipher", "to", "from", "in"))


def _traffic(amount: int, rate: float) -> str:
    return f"{size(amount)}, {size(rate)}/s" if rate else size(amount)


def duration(seconds: float) -> str:
    """A time for people, in its two largest units: `2 h 5 min`."""
    whole = max(int(seconds), 0)
    units = (("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60))
    first = next((number for number, (_, count) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2] if count) or "0 s"
