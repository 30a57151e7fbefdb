"""The checks that the other tests rely on find what they look for."""

from __future__ import annotations

import pytest

from lab.compare import differences
from lab.leftovers import leftovers
from lab.mariadb import Node
from lab.sample import fill
from tests.cluster.harness import Cluster, sst_port_taken


@pytest.fixture
def node(cluster: Cluster) -> Node:
    """A running node without others."""
    first, _ = cluster.self_signed()
    started = cluster.node(first)
    started.bootstrap()
    return started


def test_a_node_that_took_part_in_no_transfer_is_clean(node: Node) -> None:
    assert leftovers(node) == []


@pytest.mark.parametrize("name", ["sst_in_progress", "wsrep_sst.pid", "rsync_tunnel_sst_complete"])
def test_a_file_left_in_the_datadir_is_found(node: Node, name: str) -> None:
    (node.datadir / name).touch()
    (found,) = leftovers(node, grace=0)
    assert name in found


def test_a_directory_left_among_the_temporary_files_is_found(node: Node) -> None:
    (node.tmpdir / "pytunnel-abc").mkdir()
    (found,) = leftovers(node, grace=0)
    assert "pytunnel-abc" in found


def test_a_process_and_its_listening_port_are_found(node: Node) -> None:
    with sst_port_taken(node) as listener:
        process, port = leftovers(node, grace=0)
    assert f"process {listener.pid}" in process
    assert f"port {node.ports.sst}" in port


def test_a_table_that_differs_is_named(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    one, two = cluster.node(first), cluster.node(second)
    one.bootstrap()
    two.bootstrap()  # a cluster of its own
    fill(one)
    fill(two)
    two.sql.run("DELETE FROM shop.words LIMIT 1; CREATE TABLE shop.more (id INT PRIMARY KEY)")
    differing = {difference.table for difference in differences(one, two)}
    assert {"shop.more", "shop.words"} <= differing
    assert "shop.orders" not in differing
