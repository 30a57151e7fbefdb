"""A snapshot survives its way through JSON, and several add up to the service that their processes make."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.status.snapshot import (
    BOUNDS,
    DRAINING,
    LISTENING,
    SHOWN,
    Handshakes,
    Outcome,
    Snapshot,
    TunnelState,
    counted,
    from_json,
    merge,
    most_active,
    to_json,
    unreadiness,
)
from tests.support.snapshots import CERTIFICATE, CONNECTION, NOW, SNAPSHOT, TRANSFER, TUNNEL

counts = st.integers(0, 10**9)
tunnels = st.builds(
    TunnelState,
    name=st.sampled_from(["sst", "db"]),
    mode=st.just("listen"),
    source=st.text(),
    target=st.text(),
    state=st.sampled_from(["listening", "draining"]),
    open=counts,
    bytes_out=counts,
    bytes_in=counts,
    outcomes=st.lists(
        st.builds(Outcome, st.sampled_from(["completed", "failed"]), st.sampled_from(["", "idle"]), counts),
        unique_by=lambda each: (each.outcome, each.reason),
    ).map(tuple),
    handshakes=st.builds(Handshakes, st.tuples(*[counts] * (len(BOUNDS) + 1)), st.floats(0, 10**6)),
    certificates=st.just((CERTIFICATE,)),
    connections=st.lists(st.just(CONNECTION), max_size=2).map(tuple),
)
snapshots = st.builds(
    Snapshot,
    version=st.text(),
    taken=st.floats(0, 10**10),
    began=st.floats(0, 10**10),
    tunnels=st.lists(tunnels, min_size=1, max_size=2, unique_by=lambda each: each.name).map(tuple),
    transfer=st.none() | st.just(TRANSFER),
)


@given(snapshots)
def test_a_snapshot_is_the_same_after_its_way_through_json(snapshot: Snapshot) -> None:
    assert from_json(json.loads(json.dumps(to_json(snapshot)))) == snapshot


def test_names_of_a_later_version_are_passed_over() -> None:
    assert from_json(to_json(SNAPSHOT) | {"later": 1}) == SNAPSHOT


WRONG: tuple[object, ...] = (None, [1], [{}])


@pytest.mark.parametrize(
    "document",
    [
        *(None, [], {}, "x"),
        *(to_json(SNAPSHOT) | {"tunnels": wrong} for wrong in WRONG),
        *(
            to_json(SNAPSHOT) | {"taken": "now"},
            to_json(SNAPSHOT) | {"version": 1},
            to_json(SNAPSHOT) | {"taken": True},
        ),
    ],
)
def test_what_is_no_snapshot_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="this is no status of pytunnel's"):
        from_json(document)


@given(snapshots, snapshots)
def test_counters_of_processes_add_up(one: Snapshot, two: Snapshot) -> None:
    both = merge([one, two])
    for name in ("open", "bytes_out", "bytes_in", "reloads"):
        assert total(both, name) == total(one, name) + total(two, name)
    assert ended(both) == ended(one) + ended(two)
    assert handshakes(both) == handshakes(one) + handshakes(two)


@given(st.lists(snapshots, min_size=1, max_size=3))
def test_each_tunnel_and_each_outcome_is_there_once(several: list[Snapshot]) -> None:
    for tunnel in merge(several).tunnels:
        labels = [(each.outcome, each.reason) for each in tunnel.outcomes]
        assert len(labels) == len(set(labels))
    names = [tunnel.name for tunnel in merge(several).tunnels]
    assert len(names) == len(set(names))


@given(snapshots, snapshots)
def test_what_an_ended_process_has_counted_stays_in_the_sum(one: Snapshot, two: Snapshot) -> None:
    both = merge([one, counted(two)])
    for name in ("bytes_out", "bytes_in", "reloads", "reloads_failed"):
        assert total(both, name) == total(one, name) + total(two, name)
    assert ended(both) == ended(one) + ended(two)
    assert handshakes(both) == handshakes(one) + handshakes(two)


def test_what_an_ended_process_was_is_not_what_the_others_are() -> None:
    left = counted(replace(SNAPSHOT, tunnels=(replace(TUNNEL, state=DRAINING, open=7),)))
    (state,) = merge([replace(SNAPSHOT, tunnels=(replace(TUNNEL, open=1, rate_in=2.0),)), left]).tunnels
    assert (state.state, state.open, state.rate_in) == (LISTENING, 1, 2.0)
    assert state.connections == TUNNEL.connections


def total(snapshot: Snapshot, name: str) -> int:
    return sum(getattr(tunnel, name) for tunnel in snapshot.tunnels)


def ended(snapshot: Snapshot) -> int:
    return sum(outcome.count for tunnel in snapshot.tunnels for outcome in tunnel.outcomes)


def handshakes(snapshot: Snapshot) -> int:
    return sum(sum(tunnel.handshakes.counts) for tunnel in snapshot.tunnels)


def test_one_process_that_drains_makes_the_service_drain() -> None:
    draining = replace(SNAPSHOT, tunnels=(replace(TUNNEL, state=DRAINING),))
    assert [tunnel.state for tunnel in merge([SNAPSHOT, draining]).tunnels] == [DRAINING]


def test_a_certificate_that_processes_share_is_told_of_once() -> None:
    assert merge([SNAPSHOT, SNAPSHOT]).tunnels[0].certificates == (CERTIFICATE,)


def test_without_a_process_there_is_no_service() -> None:
    with pytest.raises(ValueError, match="no snapshot"):
        merge([])


def test_the_connections_that_carried_most_are_told_of() -> None:
    many = [replace(CONNECTION, bytes_out=number) for number in range(SHOWN + 7)]
    shown = most_active(many)
    assert (len(shown), shown[0].bytes_out, shown[-1].bytes_out) == (SHOWN, SHOWN + 6, 7)


# Readiness.


def test_a_tunnel_that_listens_with_a_valid_certificate_is_ready() -> None:
    assert unreadiness(SNAPSHOT) == []


@pytest.mark.parametrize(
    ("tunnel", "reason"),
    [
        (replace(TUNNEL, state=DRAINING), "sst: draining"),
        (
            replace(TUNNEL, certificates=(replace(CERTIFICATE, not_after=NOW),)),
            "sst: the certificate /CN=node2.my.cluster has expired",
        ),
        (
            replace(TUNNEL, certificates=(replace(CERTIFICATE, not_before=NOW + 1),)),
            "sst: the certificate /CN=node2.my.cluster is not valid yet",
        ),
    ],
)
def test_a_tunnel_that_is_not_ready_says_why(tunnel: TunnelState, reason: str) -> None:
    assert unreadiness(replace(SNAPSHOT, tunnels=(TUNNEL, tunnel))) == [reason]


def test_a_trusted_certificate_that_has_expired_is_no_fault_of_this_end() -> None:
    old = replace(CERTIFICATE, own=False, not_after=NOW - 1)
    assert unreadiness(replace(SNAPSHOT, tunnels=(replace(TUNNEL, certificates=(CERTIFICATE, old)),))) == []
