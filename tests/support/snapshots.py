"""A snapshot of a process with one tunnel and one connection, to be varied by tests."""

from __future__ import annotations

from pytunnel.status.snapshot import (
    BOUNDS,
    LISTENING,
    CertificateState,
    ConnectionState,
    Handshakes,
    Outcome,
    Snapshot,
    TransferState,
    TunnelState,
)

NOW = 1_795_000_000.0

CERTIFICATE = CertificateState("/CN=node2.my.cluster", "2a", True, NOW - 3600, NOW + 3600)
TRUSTED = CertificateState("/CN=node1.my.cluster", "2b", False, NOW - 3600, NOW + 7200)

CONNECTION = ConnectionState(
    source="10.0.0.1:40000",
    target="127.0.0.1:873",
    peer="node1.my.cluster",
    tls="TLSv1.3",
    cipher="TLS_AES_256_GCM_SHA384",
    bytes_out=5_000_000,
    bytes_in=2_000,
    rate_out=1_000_000.0,
    rate_in=20.0,
    seconds=5.0,
)

TUNNEL = TunnelState(
    name="sst",
    mode="listen",
    source="127.0.0.1:4444",
    target="127.0.0.1:873",
    state=LISTENING,
    open=1,
    outcomes=(Outcome("completed", "", 7), Outcome("failed", "untrusted", 2)),
    bytes_out=9_000_000,
    bytes_in=3_000,
    rate_out=1_000_000.0,
    rate_in=20.0,
    handshakes=Handshakes((3, *[0] * (len(BOUNDS) - 1), 1), 25.5),
    reloads=1,
    reloads_failed=0,
    certificates=(CERTIFICATE,),
    connections=(CONNECTION,),
)

TRANSFER = TransferState("joiner", "node1.my.cluster", 2**30, 2**31, 700, 2.0**20, 60.0)

SNAPSHOT = Snapshot("0.1", NOW, NOW - 86400, (TUNNEL,))
