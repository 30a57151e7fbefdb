"""Faults in the middle of a real cluster's state transfer; every one is followed by a transfer that succeeds."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import processes
from lab.hosts import Host
from lab.leftovers import leftovers
from lab.mariadb import Node
from lab.sample import fill
from lab.waiting import until
from tests.cluster.harness import Cluster, assert_equal_and_working, errors, warnings
from tests.support.faulty_relay import faulty_relay

MEGABYTE = 1 << 20
MEGABYTES = 15  # of rows, besides what a fresh node has
LIMIT = 30.0
Pair = tuple[Node, Node]


@pytest.fixture
def pair(cluster: Cluster, named_hosts: tuple[Host, ...]) -> Pair:
    """A donor with data, and a joiner that isn't started."""
    first, second = cluster.self_signed()
    donor, joiner = cluster.node(first), cluster.node(second)
    donor.bootstrap()
    fill(donor, MEGABYTES)
    return donor, joiner


@contextmanager
def relay_between(donor: Node, joiner: Node, hosts: Sequence[Host], *faults: str) -> Iterator[None]:
    """Let the donor reach the joiner's name by way of the third host, where connections have these faults."""
    third = hosts[2]
    file = Path("/etc/netns") / str(donor.host.namespace) / "hosts"
    names = file.read_text()
    target = (joiner.address, joiner.ports.sst)
    with faulty_relay(target, *faults, at=(third.address, joiner.ports.sst), prefix=third.command()):
        try:
            file.write_text(names.replace(f"{joiner.address} ", f"{third.address} "))
            yield
        finally:
            file.write_text(names)


@contextmanager
def midway(pair: Pair, hosts: Sequence[Host]) -> Iterator[None]:
    """A transfer that has begun, and that takes several seconds more."""
    donor, joiner = pair
    with relay_between(donor, joiner, hosts, f"slow={4 * MEGABYTE}"):
        joiner.start_joining(donor)
        until(lambda: (joiner.datadir / "shop").exists(), LIMIT, "the first schema to arrive", interval=0.02)
        yield


def assert_next_one_succeeds(pair: Pair) -> None:
    donor, joiner = pair
    donor.wait_until_synced()
    joiner.join(donor)
    assert_equal_and_working(donor, joiner)


def sst_program(node: Node) -> int:
    """The process of the SST program that the node's server has started."""
    return processes.sst_program(node.directory, node.site.method)


def processes_left(node: Node) -> list[str]:
    return [text for text in leftovers(node) if ": process " in text or "listens" in text]


def run_server(node: Node, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the node's server with other options until it ends; it is taken for started after LIMIT seconds."""
    programs, account = node.site.programs, node.site.account
    command = [programs.server, f"--defaults-file={node.directory / 'my.cnf'}", f"--user={account.name}", *words]
    return subprocess.run(
        node.host.command(*command),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=node.directory,
        env={"PATH": node.site.path},
    )


def test_connections_that_are_cut_are_not_noticed_by_the_servers(pair: Pair, named_hosts: tuple[Host, ...]) -> None:
    donor, joiner = pair
    cuts = [f"{kind}@{at}" for kind, at in (("cut", 3 * MEGABYTE), ("end", 9 * MEGABYTE), ("cut", 2000), ("cut", 1000))]
    with relay_between(donor, joiner, named_hosts, *cuts):
        joiner.join(donor)
    assert errors(donor) + errors(joiner) == []
    assert len([text for text in warnings(donor) if "trying again in" in text]) == len(cuts)
    assert_equal_and_working(donor, joiner)


def test_the_joiners_program_is_killed(pair: Pair, named_hosts: tuple[Host, ...]) -> None:
    _, joiner = pair
    with midway(pair, named_hosts):
        os.kill(sst_program(joiner), signal.SIGKILL)
        joiner.wait_until_ended(LIMIT)
    assert processes_left(joiner) == []
    assert_next_one_succeeds(pair)


def test_the_donors_program_is_killed(pair: Pair, named_hosts: tuple[Host, ...]) -> None:
    donor, joiner = pair
    with midway(pair, named_hosts):
        os.kill(sst_program(donor), signal.SIGKILL)
        joiner.wait_until_ended(LIMIT)
    assert processes_left(donor) + leftovers(joiner) == []
    assert_next_one_succeeds(pair)


def test_a_file_that_the_donor_can_not_read_is_named_on_both_nodes(pair: Pair) -> None:
    donor, joiner = pair
    file = donor.datadir / "shop" / "backup.sql"
    file.touch(mode=0o000)
    joiner.start_joining(donor)
    joiner.wait_until_ended(LIMIT)
    assert "backup.sql" in errors(donor)[0]
    assert "the donor gave up: " in errors(joiner)[0]
    assert "backup.sql" in errors(joiner)[0]
    assert leftovers(donor, joiner) == []
    file.unlink()
    assert_next_one_succeeds(pair)


def test_a_file_that_the_joiner_can_not_write_is_named_on_both_nodes(pair: Pair) -> None:
    donor, joiner = pair
    (joiner.datadir / "shop").mkdir(mode=0o755)  # not the server's own
    joiner.start_joining(donor)
    joiner.wait_until_ended(LIMIT)
    assert '"shop" (in rsync_tunnel_sst) failed' in errors(donor)[0]
    assert '"shop" (in rsync_tunnel_sst) failed' in errors(joiner)[0]
    assert leftovers(donor, joiner) == []
    joiner.site.account.own(joiner.datadir / "shop")
    assert_next_one_succeeds(pair)


def test_no_server_starts_on_half_a_database(pair: Pair, named_hosts: tuple[Host, ...]) -> None:
    _, joiner = pair
    with midway(pair, named_hosts):
        joiner.kill()
        processes.end_mentioning(joiner.directory)
    for words in (["--wsrep-provider=none"], ["--wsrep-on=OFF", "--wsrep-provider=none"], ["--wsrep-new-cluster"]):
        refused = run_server(joiner, *words)
        assert refused.returncode != 0
        assert "Fatal error: Can't open and lock privilege tables" in refused.stderr
    # What a service asks before each start (galera_recovery): a failure would keep it from asking for a transfer.
    asked = run_server(joiner, "--wsrep-recover", "--disable-log-error")
    assert asked.returncode == 0
    assert "Recovered position: 00000000-0000-0000-0000-000000000000:-1" in asked.stderr
    assert_next_one_succeeds(pair)
