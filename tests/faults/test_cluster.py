"""Faults in the middle of a real cluster's state transfer; every one is followed by a transfer that succeeds."""

from __future__ import annotations

import os
import signal
import subprocess

from lab import processes
from lab.hosts import Host
from lab.leftovers import leftovers
from lab.mariadb import Node
from tests.cluster.harness import (
    Pair,
    assert_equal_and_working,
    assert_next_one_succeeds,
    errors,
    midway,
    relay_between,
    sst_program,
    warnings,
)

MEGABYTE = 1 << 20
LIMIT = 30.0


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
