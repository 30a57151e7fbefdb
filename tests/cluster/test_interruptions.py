"""A transfer that is cut short leaves nothing behind, and the next one succeeds."""

from __future__ import annotations

import os
import signal

from lab.hosts import Host
from lab.leftovers import leftovers
from tests.cluster.harness import Pair, assert_next_one_succeeds, errors, midway, sst_program

_LIMIT = 30.0


def test_the_joiners_server_is_killed(pair: Pair, named_hosts: tuple[Host, ...]) -> None:
    donor, joiner = pair
    with midway(pair, named_hosts):
        joiner.kill()
    assert leftovers(donor, joiner, grace=_LIMIT) == []  # the donor asks again for some seconds
    assert len(errors(joiner)) == 1
    assert_next_one_succeeds(pair)


def test_the_donors_server_is_killed(pair: Pair, named_hosts: tuple[Host, ...]) -> None:
    donor, joiner = pair
    with midway(pair, named_hosts):
        donor.kill()
        assert leftovers(donor) == []
    # A server started anew would write to the files that are still being read.
    assert len(errors(donor)) == 1
    joiner.stop()
    assert leftovers(joiner) == []


def test_the_joiners_program_is_told_to_end(pair: Pair, named_hosts: tuple[Host, ...]) -> None:
    donor, joiner = pair
    with midway(pair, named_hosts):
        os.kill(sst_program(joiner), signal.SIGTERM)
        joiner.wait_until_ended(_LIMIT)
    assert leftovers(donor, joiner, grace=_LIMIT) == []
    assert "SIGTERM" in errors(joiner)[0]
    assert_next_one_succeeds(pair)


def test_the_donors_program_is_told_to_end(pair: Pair, named_hosts: tuple[Host, ...]) -> None:
    donor, joiner = pair
    with midway(pair, named_hosts):
        os.kill(sst_program(donor), signal.SIGTERM)
        joiner.wait_until_ended(_LIMIT)
    assert leftovers(donor, joiner) == []
    assert "SIGTERM" in errors(donor)[0]
    assert_next_one_succeeds(pair)
