"""`pytunnel doctor` beside real servers: it finds nothing that keeps a working node from state transfers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from lab.certificates import self_signed
from lab.mariadb import START_LIMIT, Node
from tests.cluster.harness import Cluster, bootstrap_with_data

_SOURCES = Path(__file__).parents[2] / "src"
_LIMIT = 60.0


def test_a_node_that_has_joined_has_no_fault(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    for node in (donor, joiner):
        found = diagnosis(node)
        assert [row for row in found if row["status"] == "fault"] == []
        assert {row["status"] for row in found if row["check"] in ("SST channel", "SST method", "port")} == {"ok"}


def test_a_node_that_could_not_join_is_told_why(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    own = self_signed("another.my.cluster")
    joiner = cluster.node(replace(second, sst=cluster.combined(own, [own])))
    joiner.start_joining(donor)
    joiner.wait_until_ended(START_LIMIT)
    (told,) = [row for row in diagnosis(joiner) if row["check"] == "certificate's name"]
    assert told["status"] == "fault"
    assert f"announces itself as {second.host.name}" in told["text"]
    assert "another.my.cluster" in told["text"]


def diagnosis(node: Node) -> list[dict[str, str]]:
    """What doctor says on the node's host."""
    words = [sys.executable, "-m", "pytunnel", "doctor", "--json", "--defaults-file", str(node.directory / "my.cnf")]
    done = subprocess.run(
        node.host.command(*words),
        env=os.environ | {"PYTHONPATH": str(_SOURCES)},
        stdout=subprocess.PIPE,
        timeout=_LIMIT,
        check=False,
    )
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found
