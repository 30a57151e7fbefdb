"""How long a donor goes on with a stream that fails."""

from __future__ import annotations

import pytest

from pytunnel.sst import patience, rsync
from pytunnel.sst.patience import Tries, Trouble, trouble_of
from pytunnel.tls.errors import HandshakeError, Incompatible, PeerRejected, TruncatedStream
from pytunnel.transport.errors import TransportError
from pytunnel.tunnel.relay import ConnectionFailed

MUCH = 1 << 30


def waits(trouble: Trouble, moved: int = 0, most: int = 100) -> list[float]:
    """The waits of a stream that fails each time at once."""
    found: list[float] = []
    tries, now = Tries(), 0.0
    while len(found) < most and (wait := tries.wait_after(trouble, moved, now)) is not None:
        found.append(wait)
        now += wait
    return found


def test_the_waits_grow_until_two_minutes_are_over() -> None:
    assert waits(Trouble.NETWORK) == [1, 2, 4, 8, 15, 15, 15, 15, 15, 15, 15]


def test_a_program_that_has_gone_is_waited_for_some_seconds_only() -> None:
    assert waits(Trouble.PROGRAM) == [1, 2]


def test_what_lasts_is_not_tried_again() -> None:
    assert waits(Trouble.LASTING) == []


def test_a_stream_that_moves_on_is_tried_again_without_end() -> None:
    assert waits(Trouble.NETWORK, moved=MUCH) == [1] * 100


def test_a_network_that_was_down_does_not_count_against_a_program_that_is_back() -> None:
    tries = Tries()
    assert tries.wait_after(Trouble.NETWORK, 0, 0.0) == 1
    assert tries.wait_after(Trouble.NETWORK, MUCH, 1000.0) == 1
    assert tries.wait_after(Trouble.PROGRAM, 0, 1001.0) == 2


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (TransportError("no answer"), Trouble.NETWORK),
        (TransportError("refused", refused=True), Trouble.PROGRAM),
        (TruncatedStream("cut"), Trouble.NETWORK),
        (HandshakeError("closed during the handshake"), Trouble.NETWORK),
        (PeerRejected("another name"), Trouble.LASTING),
        (Incompatible("did not accept our certificate"), Trouble.LASTING),
    ],
)
def test_the_kind_of_trouble_is_told_by_the_error_and_by_its_cause(error: Exception, trouble: Trouble) -> None:
    relayed = ConnectionFailed("in the relay's words")
    relayed.__cause__ = error
    assert trouble_of(error) == trouble_of(relayed) == trouble


@pytest.mark.parametrize("code", [-9, 12, 20, 30])
def test_an_rsync_that_lost_its_other_end_may_end_well_next_time(code: int) -> None:
    assert rsync.may_pass(code)


@pytest.mark.parametrize("code", [1, 2, 5, 11, 23])
def test_an_rsync_that_failed_by_itself_will_again(code: int) -> None:
    assert not rsync.may_pass(code)


def test_each_limit_leaves_room_for_the_ones_that_it_must_outlast() -> None:
    assert rsync.IDLE_LIMIT < patience.MUTE_LIMIT
    assert patience.NETWORK_LIMIT < patience.ABSENCE_LIMIT
