"""Connections that are cut, ended, stalled or slow: the stream goes on where it stood, and both servers see nothing."""

from __future__ import annotations

import re

import pytest

from tests.faults.nodes import MEGABYTE, SIZE, assert_arrived, assert_failed, retries, sent_bytes, transfer, warnings
from tests.support.programs import needs
from tests.support.sst import IMPATIENT, PlayedServer

pytestmark = needs("rsync", "my_print_defaults")


@pytest.mark.parametrize("fault", ["cut", "end"])
def test_a_connection_that_is_cut_goes_on_where_it_stood(joiner: PlayedServer, donor: PlayedServer, fault: str) -> None:
    with transfer(joiner, donor, f"{fault}@{15 * MEGABYTE}") as (sending, receiving):
        assert_arrived(joiner, donor, sending, receiving)
    assert sent_bytes(sending) < SIZE * 1.5


def test_each_cut_is_one_warning_with_the_bytes_so_far_and_the_wait(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer(joiner, donor, f"cut@{15 * MEGABYTE}", f"cut@{5 * MEGABYTE}") as (sending, receiving):
        assert_arrived(joiner, donor, sending, receiving)
    first, second = retries(sending)
    sent = r"(1\d|20)\.\d MiB"  # at the cut more had been sent than had arrived, perhaps all of it
    assert re.fullmatch(rf"a connection failed after {sent}: .*; trying again in 1 s", first)
    assert re.fullmatch(r"a connection failed after \d+\.\d MiB: .*; trying again in [12] s", second)
    assert len(warnings(sending)) == 2


def test_a_connection_that_falls_silent_is_given_up_for_another(joiner: PlayedServer, donor: PlayedServer) -> None:
    donor.program = joiner.program = IMPATIENT
    with transfer(joiner, donor, f"stall@{15 * MEGABYTE}") as (sending, receiving):
        assert_arrived(joiner, donor, sending, receiving)
    assert "no byte from the side that was dialled for 4 s" in retries(sending)[0]


@pytest.mark.parametrize("end", [SIZE - MEGABYTE, SIZE])
def test_nor_does_it_help_that_what_rsync_says_of_itself_can_be_sent(
    joiner: PlayedServer, donor: PlayedServer, end: int
) -> None:
    donor.program = joiner.program = IMPATIENT
    with transfer(joiner, donor, f"stall@{end}") as (sending, receiving):
        assert_arrived(joiner, donor, sending, receiving)
    assert retries(sending)


def test_a_file_that_takes_longer_than_the_limits_is_no_silence(
    joiner: PlayedServer, donor: PlayedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    donor.program = joiner.program = IMPATIENT
    monkeypatch.setenv("IMPATIENCE", "3")  # the longest limit is 12 s then, and the file takes 20 s
    with transfer(joiner, donor, f"slow={MEGABYTE}") as (sending, receiving):
        assert_arrived(joiner, donor, sending, receiving)
    assert warnings(sending) == warnings(receiving) == []


@pytest.mark.parametrize("at", [100, 2_000])
def test_every_second_connection_is_cut(joiner: PlayedServer, donor: PlayedServer, at: int) -> None:
    donor.program = IMPATIENT
    with transfer(joiner, donor, f"every@{at}") as (sending, receiving):
        assert_arrived(joiner, donor, sending, receiving)
    assert retries(sending)


def test_a_slow_network_with_long_ways_is_no_fault(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer(joiner, donor, "delay=0.002", f"slow={40 * MEGABYTE}") as (sending, receiving):
        assert_arrived(joiner, donor, sending, receiving)
    assert warnings(sending) == warnings(receiving) == []


def test_a_network_that_never_comes_back_ends_both_with_the_reason(joiner: PlayedServer, donor: PlayedServer) -> None:
    donor.program = joiner.program = IMPATIENT
    with transfer(joiner, donor, *["cut@4000"] * 1000) as (sending, receiving):
        assert_failed(sending, "tries without progress")
        assert_failed(receiving, "the donor gave up: ")
