"""A cluster goes from one CA to another, by what `pytunnel certs rotate` prints; a node takes all data at each step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.mariadb import Node, NodeSettings
from tests.cluster.harness import Cluster, assert_joined, bootstrap_with_data, infos
from tests.support.certs import certs, commands_of_the_moment


@pytest.mark.timeout(400)  # seven transfers
def test_no_step_of_a_change_of_ca_is_an_outage(cluster: Cluster) -> None:
    folder = cluster.site.directory / f"{cluster.name}-authorities"
    folder.mkdir()
    first, second = make_old_state(folder, cluster)
    certs(folder, "ca", "New CA", "--out", "new")
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    state = ["rotate", "--old", "old.crt", "--new", "new.crt", "--ca", "bundle1.crt", "--ca", "bundle2.crt"]
    state += ["node1.crt", "node2.crt"]
    steps = 0
    while commands := commands_of_the_moment(certs(folder, *state, code=0 if steps == 6 else 1)):
        certs(folder, *commands[0])
        steps += 1
        rejoin_with_all_data(joiner, donor)
    assert steps == 6
    assert_joined(donor, joiner)


def make_old_state(folder: Path, cluster: Cluster) -> Sequence[NodeSettings]:
    """Settings of two nodes with certificates of the old CA; each has a CA file of its own."""
    certs(folder, "ca", "Old CA", "--out", "old")
    settings = []
    for number, host in enumerate(cluster.hosts[:2], start=1):
        node, bundle = f"node{number}", f"bundle{number}.crt"
        certs(folder, "node", host.name, "--ca", "old.crt", "--ca-key", "old.key", "--out", node)
        certs(folder, "bundle", "old.crt", "--out", bundle)
        cluster.site.account.own(folder / f"{node}.key")
        files = {"tca": folder / bundle, "tcert": folder / f"{node}.crt", "tkey": folder / f"{node}.key"}
        settings.append(NodeSettings(host=host, sst={option: str(path) for option, path in files.items()}))
    return settings


def rejoin_with_all_data(joiner: Node, donor: Node) -> None:
    """Let the node come back as one that knows nothing."""
    joiner.stop()
    (joiner.datadir / "grastate.dat").unlink()
    (joiner.datadir / "galera.cache").unlink()
    transfers = len(closing_lines(joiner))
    joiner.join(donor)
    assert len(closing_lines(joiner)) == transfers + 1


def closing_lines(node: Node) -> list[str]:
    return [text for text in infos(node) if "TLSv1.3" in text]
