"""A transfer that is cut short leaves nothing behind, and the next one succeeds."""

from __future__ import annotations

import os
import signal

import pytest

from lab import processes
from lab.leftovers import leftovers
from lab.mariadb import Node
from lab.sample import fill
from lab.waiting import until
from tests.cluster.harness import Cluster, assert_equal_and_working, errors

MEGABYTES = 60  # so much that the transfer takes a second
_LIMIT = 30.0


@pytest.fixture
def under_way(cluster: Cluster) -> tuple[Node, Node]:
    """A donor and a joiner in the middle of a transfer."""
    first, second = cluster.self_signed()
    donor, joiner = cluster.node(first), cluster.node(second)
    donor.bootstrap()
    fill(donor, MEGABYTES)
    joiner.start_joining(donor)
    until(lambda: "snapshot of" in donor.error_log(), _LIMIT, "the transfer to begin", interval=0.01)
    return donor, joiner


def test_the_joiners_server_is_killed(under_way: tuple[Node, Node]) -> None:
    donor, joiner = under_way
    joiner.kill()
    assert leftovers(donor, joiner, grace=_LIMIT) == []  # the donor asks again for some seconds
    assert len(errors(joiner)) == 1
    assert_next_one_succeeds(donor, joiner)


def test_the_donors_server_is_killed(under_way: tuple[Node, Node]) -> None:
    donor, joiner = under_way
    donor.kill()
    assert leftovers(donor) == []
    # A server started anew would write to the files that are still being read.
    assert len(errors(donor)) == 1
    joiner.stop()
    assert leftovers(joiner) == []


def test_the_joiners_program_is_told_to_end(under_way: tuple[Node, Node]) -> None:
    donor, joiner = under_way
    os.kill(sst_program(joiner), signal.SIGTERM)
    joiner.wait_until_ended(_LIMIT)
    assert leftovers(donor, joiner, grace=_LIMIT) == []
    assert "SIGTERM" in errors(joiner)[0]
    assert_next_one_succeeds(donor, joiner)


def test_the_donors_program_is_told_to_end(under_way: tuple[Node, Node]) -> None:
    donor, joiner = under_way
    os.kill(sst_program(donor), signal.SIGTERM)
    joiner.wait_until_ended(_LIMIT)
    assert leftovers(donor, joiner) == []
    assert "SIGTERM" in errors(donor)[0]
    assert_next_one_succeeds(donor, joiner)


def sst_program(node: Node) -> int:
    """The process of the SST program that the node's server has started."""
    return processes.sst_program(node.directory, node.site.method)


def assert_next_one_succeeds(donor: Node, joiner: Node) -> None:
    """The donor takes part again, and the joiner joins it after all."""
    donor.wait_until_synced()
    joiner.join(donor)
    assert_equal_and_working(donor, joiner)
