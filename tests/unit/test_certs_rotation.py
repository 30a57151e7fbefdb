"""A CA is changed while the cluster works: no step lets two nodes refuse each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from pytunnel.certs.errors import CertsError
from pytunnel.certs.findings import Level
from pytunnel.certs.making import issue, make_ca, make_key, make_self_signed, valid_for
from pytunnel.certs.names import parse_names
from pytunnel.certs.rotation import Bundle, Change, Goal, NodeFile, Progress, doubts, outages, plan

KEY = make_key()
OLD = make_ca("Old CA", valid_for(100), make_key())
NEW = make_ca("New CA", valid_for(1000), make_key())
NODE_OLD = issue(OLD, parse_names(["node"]), valid_for(10), KEY).certificate
NODE_NEW = issue(NEW, parse_names(["node"]), valid_for(10), KEY).certificate
BOTH = (OLD.certificate, NEW.certificate)
ONLY_OLD, ONLY_NEW = BOTH[:1], BOTH[1:]

Trusted = tuple[x509.Certificate, ...]


def change(bundles: Sequence[Trusted] = (), nodes: Sequence[x509.Certificate] = ()) -> Change:
    return Change(
        OLD.certificate,
        NEW.certificate,
        [Bundle(Path(f"bundle{number}"), trusted) for number, trusted in enumerate(bundles)],
        [NodeFile(Path(f"node{number}"), certificate) for number, certificate in enumerate(nodes)],
    )


def progress(state: Change) -> list[Progress]:
    return [step.progress for step in plan(state)]


def test_the_steps_are_always_the_same_three() -> None:
    assert [step.goal for step in plan(change())] == [Goal.TRUST_BOTH, Goal.RENEW, Goal.DROP_OLD]


def test_without_files_nothing_is_said_of_the_progress() -> None:
    assert progress(change()) == [Progress.UNKNOWN] * 3


def test_at_first_the_new_ca_goes_into_each_bundle_that_lacks_it() -> None:
    state = change([ONLY_OLD, BOTH], [NODE_OLD, NODE_OLD])
    assert progress(state) == [Progress.NOW, Progress.LATER, Progress.LATER]
    assert [bundle.path.name for bundle in plan(state)[0].bundles] == ["bundle0"]


def test_then_each_certificate_of_the_old_ca_is_renewed() -> None:
    state = change([BOTH, BOTH], [NODE_NEW, NODE_OLD])
    assert progress(state) == [Progress.DONE, Progress.NOW, Progress.LATER]
    assert [node.path.name for node in plan(state)[1].nodes] == ["node1"]


def test_at_last_the_old_ca_leaves_each_bundle_that_has_it() -> None:
    state = change([ONLY_NEW, BOTH], [NODE_NEW, NODE_NEW])
    assert progress(state) == [Progress.DONE, Progress.DONE, Progress.NOW]
    assert [bundle.path.name for bundle in plan(state)[2].bundles] == ["bundle1"]


def test_in_the_end_all_is_done() -> None:
    assert progress(change([ONLY_NEW], [NODE_NEW])) == [Progress.DONE] * 3


def test_the_old_ca_is_not_dropped_while_nobody_knows_of_the_certificates() -> None:
    assert progress(change([BOTH])) == [Progress.DONE, Progress.UNKNOWN, Progress.LATER]


def test_no_certificate_is_renewed_while_nobody_knows_of_the_bundles() -> None:
    assert progress(change(nodes=[NODE_OLD])) == [Progress.UNKNOWN, Progress.LATER, Progress.UNKNOWN]


def test_the_same_ca_twice_is_refused() -> None:
    with pytest.raises(CertsError, match="the same certificate"):
        plan(Change(OLD.certificate, OLD.certificate))


def test_nodes_that_refuse_each_other_are_named() -> None:
    (finding,) = outages(change([BOTH, ONLY_OLD], [NODE_OLD, NODE_NEW]))
    assert (finding.level, finding.place) == (Level.FAULT, "bundle1")
    assert finding.text.startswith("nodes with this bundle refuse node1: CN=node, DNS:node, which can't be trusted: ")


def test_two_cas_of_one_name_are_a_warning() -> None:
    twin = make_ca("Old CA", valid_for(1000), make_key())
    (finding,) = doubts(Change(OLD.certificate, twin.certificate))
    assert (finding.level, "the same name /CN=Old CA" in finding.text) == (Level.WARNING, True)
    assert doubts(change()) == []


def test_a_self_signed_node_changes_its_certificate_by_the_same_steps() -> None:
    names = [parse_names([name]) for name in ("node1", "node2")]
    old, other, new = (
        make_self_signed(name, valid_for(10), make_key()).certificate for name in (names[0], names[1], names[0])
    )

    def steps(trusted: Trusted, own: x509.Certificate) -> tuple[list[Progress], int]:
        state = Change(old, new, [Bundle(Path("b"), trusted)], [NodeFile(Path("1"), own), NodeFile(Path("2"), other)])
        return progress(state), len(outages(state))

    assert steps((old, other), old) == ([Progress.NOW, Progress.LATER, Progress.LATER], 0)
    assert steps((old, other, new), old) == ([Progress.DONE, Progress.NOW, Progress.LATER], 0)
    assert steps((old, other, new), new) == ([Progress.DONE, Progress.DONE, Progress.NOW], 0)
    assert steps((other, new), new) == ([Progress.DONE] * 3, 0)


def follow(state: Change, pick: int) -> Change | None:
    """The state after one file was changed as the plan says, whichever is picked; None when all is done."""
    for step in plan(state):
        if step.progress is Progress.NOW:
            paths = [*(item.path for item in step.bundles), *(item.path for item in step.nodes)]
            chosen = paths[pick % len(paths)]
            trusted = BOTH if step.goal is Goal.TRUST_BOTH else ONLY_NEW
            return replace(
                state,
                bundles=[
                    replace(item, certificates=trusted) if item.path == chosen else item for item in state.bundles
                ],
                nodes=[replace(item, certificate=NODE_NEW) if item.path == chosen else item for item in state.nodes],
            )
    return None


@settings(deadline=None, max_examples=25)  # each asks OpenSSL a hundred times
@given(st.integers(1, 4), st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_whoever_changes_one_file_after_the_other_as_the_plan_says_has_no_outage(size: int, picks: list[int]) -> None:
    state: Change | None = change([ONLY_OLD] * size, [NODE_OLD] * size)
    seen = []
    for pick in picks:
        if state is None:
            break
        assert outages(state) == []
        seen.append(progress(state))
        state = follow(state, pick)
    assert state is None
    assert len(seen) == 3 * size + 1
    assert seen[-1] == [Progress.DONE] * 3


trusts = st.sampled_from([ONLY_OLD, ONLY_NEW, BOTH])
shows = st.sampled_from([NODE_OLD, NODE_NEW])


@settings(deadline=None)
@given(st.lists(trusts, min_size=1, max_size=3), st.lists(shows, min_size=1, max_size=3))
def test_an_outage_is_found_where_a_bundle_lacks_the_ca_of_a_certificate(
    bundles: list[Trusted], nodes: list[x509.Certificate]
) -> None:
    issuers = {NODE_OLD: OLD.certificate, NODE_NEW: NEW.certificate}
    expected = sum(issuers[node] not in trusted for trusted in bundles for node in nodes)
    assert len(outages(change(bundles, nodes))) == expected
