"""A snapshot as Prometheus reads it; every value comes from the snapshot, none from a registry of the process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pytunnel.status.snapshot import BOUNDS, Handshakes, Snapshot, TransferState, TunnelState, unreadiness

CONTENT_TYPE = CONTENT_TYPE_LATEST


def format_metrics(snapshot: Snapshot) -> bytes:
    """The snapshot in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_SnapshotCollector(snapshot))
    return generate_latest(registry)


class _SnapshotCollector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield InfoMetricFamily("pytunnel", "The version that runs", {"version": snapshot.version})
        yield _gauge("pytunnel_start_time_seconds", "Unix time of the start", snapshot.began)
        yield _gauge("pytunnel_ready", "1 if new connections are welcome, as /readyz says", not unreadiness(snapshot))
        yield from _connections(snapshot.tunnels)
        yield from _traffic(snapshot.tunnels)
        yield from _certificates(snapshot.tunnels)
        if snapshot.transfer is not None:
            yield from _transfer(snapshot.transfer)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)


def _connections(tunnels: Iterable[TunnelState]) -> Iterator[Metric]:
    opened = GaugeMetricFamily(
        "pytunnel_connections_open", "Connections open now, handshakes included", labels=["tunnel", "mode"]
    )
    ended = CounterMetricFamily(
        "pytunnel_connections",
        "Connections that have ended: completed, failed, or refused before anything else",
        labels=["tunnel", "outcome", "reason"],
    )
    for tunnel in tunnels:
        opened.add_metric([tunnel.name, tunnel.mode], tunnel.open)
        for each in tunnel.outcomes:
            ended.add_metric([tunnel.name, each.outcome, each.reason], each.count)
    yield opened
    yield ended


def _traffic(tunnels: Iterable[TunnelState]) -> Iterator[Metric]:
    carried = CounterMetricFamily(
        "pytunnel_bytes",
        "Bytes carried; out is from the side that is accepted to the one that is dialled",
        labels=["tunnel", "direction"],
    )
    handshakes = HistogramMetricFamily(
        "pytunnel_handshake_seconds", "How long TLS handshakes took that ended well", labels=["tunnel"]
    )
    for tunnel in tunnels:
        carried.add_metric([tunnel.name, "out"], tunnel.bytes_out)
        carried.add_metric([tunnel.name, "in"], tunnel.bytes_in)
        handshakes.add_metric([tunnel.name], _buckets(tunnel.handshakes), tunnel.handshakes.seconds)
    yield carried
    yield handshakes


def _buckets(handshakes: Handshakes) -> list[tuple[str, float]]:
    """Counts of all up to each bound, as Prometheus wants them."""
    names = (*(repr(bound) for bound in BOUNDS), "+Inf")
    return list(zip(names, accumulate(handshakes.counts), strict=True))


def _certificates(tunnels: Iterable[TunnelState]) -> Iterator[Metric]:
    expiry = GaugeMetricFamily(
        "pytunnel_certificate_expiry_timestamp_seconds",
        "Unix time at which a certificate expires; kind is own or trusted",
        labels=["tunnel", "kind", "subject", "serial"],
    )
    reloads = CounterMetricFamily(
        "pytunnel_certificate_reloads",
        "How often the certificate's files were read again; a failed one changes nothing",
        labels=["tunnel", "result"],
    )
    for tunnel in tunnels:
        for each in tunnel.certificates:
            kind = "own" if each.own else "trusted"
            expiry.add_metric([tunnel.name, kind, each.subject, each.serial], each.not_after)
        reloads.add_metric([tunnel.name, "ok"], tunnel.reloads)
        reloads.add_metric([tunnel.name, "failed"], tunnel.reloads_failed)
    yield expiry
    yield reloads


def _transfer(transfer: TransferState) -> Iterator[Metric]:
    yield CounterMetricFamily("pytunnel_transfer_bytes", "Bytes of the state transfer so far", transfer.moved)
    if transfer.total is not None:
        yield _gauge("pytunnel_transfer_expected_bytes", "Bytes that the state transfer will have", transfer.total)
