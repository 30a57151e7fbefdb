"""A node that was a member before comes back."""

from __future__ import annotations

from lab.mariadb import Node
from tests.cluster.harness import Cluster, assert_joined, bootstrap_with_data


def test_a_short_absence_is_made_up_without_a_transfer_of_files(cluster: Cluster) -> None:
    donor, joiner = joined_pair(cluster)
    joiner.stop()
    donor.sql.run("CREATE TABLE shop.missed (id INT PRIMARY KEY); INSERT INTO shop.missed VALUES (7)")
    own_file = joiner.datadir / "shop" / "a-full-transfer-would-delete-this"
    own_file.touch()
    position = joiner.log_position()
    joiner.join(donor)
    assert "IST received" in joiner.error_log(position)
    assert own_file.exists()
    assert joiner.sql.value("SELECT id FROM shop.missed") == "7"
    assert_joined(donor, joiner)


def test_old_data_gives_way_to_the_donors(cluster: Cluster) -> None:
    donor, joiner = joined_pair(cluster)
    joiner.stop()
    donor.sql.run(
        "DROP TABLE shop.parts; DROP SCHEMA `weird name-é`; DELETE FROM shop.settings;"
        "CREATE SCHEMA later; CREATE TABLE later.rows_of_it (id INT PRIMARY KEY)"
    )
    (joiner.datadir / "grastate.dat").unlink()  # without it the server asks for all data
    (joiner.datadir / "galera.cache").unlink()
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert schema_folders(joiner) == schema_folders(donor)
    assert not list((joiner.datadir / "shop").glob("parts*"))


def test_a_node_that_was_killed_during_its_life_rejoins(cluster: Cluster) -> None:
    donor, joiner = joined_pair(cluster)
    joiner.kill()
    joiner.join(donor)
    assert_joined(donor, joiner)


def joined_pair(cluster: Cluster) -> tuple[Node, Node]:
    """A donor with data, and a node that has joined it."""
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    joiner.join(donor)
    return donor, joiner


def schema_folders(node: Node) -> set[str]:
    """The names of the directories in the node's datadir."""
    return {path.name for path in node.datadir.iterdir() if path.is_dir()}
