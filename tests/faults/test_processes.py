"""Processes that are killed: the other side ends with the reason, nothing stays, the next transfer needs no hand."""

from __future__ import annotations

import os
import signal

from lab.waiting import until
from pytunnel.sst.plan import format_failure
from tests.faults.nodes import (
    assert_arrived,
    assert_failed,
    assert_next_one_succeeds,
    assert_no_process_left,
    assert_nothing_left,
    assert_withheld,
    retries,
    rsyncs,
    transfer_midway,
)
from tests.support.programs import needs
from tests.support.sst import IMPATIENT, LIMIT, PlayedServer

pytestmark = needs("rsync", "my_print_defaults")


def test_the_joiners_program_is_killed(joiner: PlayedServer, donor: PlayedServer) -> None:
    donor.program = IMPATIENT
    with transfer_midway(joiner, donor) as (sending, receiving):
        receiving.process.kill()
        assert_failed(sending, "tries without progress")
    assert_nothing_left(donor)
    assert_no_process_left(joiner)
    assert_next_one_succeeds(joiner, donor)


def test_the_donors_program_is_killed(joiner: PlayedServer, donor: PlayedServer) -> None:
    joiner.program = IMPATIENT
    with transfer_midway(joiner, donor) as (sending, receiving):
        sending.process.kill()
        assert_failed(receiving, "the donor has had no connection for 3 s")
    assert_nothing_left(joiner)
    assert_withheld(joiner)
    assert_no_process_left(donor)
    assert_next_one_succeeds(joiner, donor)


def test_the_donors_program_is_told_to_end_and_tells_the_joiner(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer_midway(joiner, donor) as (sending, receiving):
        sending.process.send_signal(signal.SIGTERM)
        assert_failed(receiving, "the donor gave up: it was told to end, or its server has gone")
        assert_failed(sending, "ended by SIGTERM")
    assert_nothing_left(joiner, donor)
    assert_withheld(joiner)


def test_a_joiner_that_is_told_to_end_still_says_why_the_donor_gave_up(
    joiner: PlayedServer, donor: PlayedServer
) -> None:
    with transfer_midway(joiner, donor) as (_, receiving):
        (note,) = joiner.tmpdir.glob("pytunnel-*/plan/plan")
        note.write_text(format_failure("the disk is gone"))  # of a connection that has not ended yet
        receiving.process.send_signal(signal.SIGTERM)
        assert_failed(receiving, "the donor gave up: the disk is gone")


def test_an_rsync_of_the_donor_is_killed_and_done_again(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer_midway(joiner, donor) as (sending, receiving):
        os.kill(rsyncs(donor)[0], signal.SIGKILL)
        assert_arrived(joiner, donor, sending, receiving)
    assert "rsync was killed" in retries(sending)[0]


def test_an_rsync_of_the_joiner_is_killed_and_done_again(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer_midway(joiner, donor) as (sending, receiving):
        os.kill(rsyncs(joiner)[-1], signal.SIGKILL)
        assert_arrived(joiner, donor, sending, receiving)
    assert len(retries(sending)) == 1


def test_an_rsync_that_is_stopped_for_ever_is_ended_and_done_again(joiner: PlayedServer, donor: PlayedServer) -> None:
    donor.program = IMPATIENT  # and not the joiner: who of two lost patience first would be a matter of load
    with transfer_midway(joiner, donor) as (sending, receiving):
        for process in rsyncs(joiner):
            os.kill(process, signal.SIGSTOP)
        assert_arrived(joiner, donor, sending, receiving)
    assert "no byte from the side" in retries(sending)[0]


def test_the_joiners_server_closes_the_pipe_midway(joiner: PlayedServer, donor: PlayedServer) -> None:
    donor.program = IMPATIENT
    with transfer_midway(joiner, donor) as (sending, receiving):
        assert receiving.process.stdout is not None
        receiving.process.stdout.close()
        until(lambda: receiving.process.poll() is not None, LIMIT, "the joiner's end")
        assert_failed(sending, "tries without progress")
    assert_nothing_left(joiner, donor)
    assert_withheld(joiner)
    assert_next_one_succeeds(joiner, donor)


def test_the_donors_server_closes_the_pipe_midway(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer_midway(joiner, donor) as (sending, receiving):
        assert sending.process.stdout is not None
        sending.process.stdout.close()
        assert_failed(receiving, "the donor gave up: it was told to end, or its server has gone")
    assert_nothing_left(joiner, donor)
    assert_next_one_succeeds(joiner, donor)
