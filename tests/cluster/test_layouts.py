"""A node joins wherever the servers keep their files, and however their options are written."""

from __future__ import annotations

from dataclasses import replace

from lab.mariadb import Node, NodeSettings
from lab.optionfile import Options
from lab.sample import fill
from tests.cluster.harness import Cluster, assert_joined, bootstrap_with_data, with_server, with_sst

APART: Options = {
    "innodb-data-home-dir": "{node}/elsewhere/system",
    "innodb-log-group-home-dir": "{node}/elsewhere/redo",
    "innodb-undo-directory": "{node}/elsewhere/undo",
    "aria-log-dir-path": "{node}/elsewhere/aria",
}
BINLOG_HEADER = 23  # of a binary log: it tells, among others, whether a server still writes to it
SET_FILES = ("ibdata1", "ib_logfile0", "undo001", "undo002", "aria_log_control")


def test_data_redo_undo_and_aria_files_outside_of_the_datadir(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, with_server(first, APART))
    joiner = cluster.node(with_server(second, APART))
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert set_files_in(joiner) == []


def test_files_outside_of_the_datadir_on_the_donor_alone(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, with_server(first, APART))
    joiner = cluster.node(second)
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert set_files_in(joiner) == list(SET_FILES)


def test_files_outside_of_the_datadir_on_the_joiner_alone_by_relative_paths(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    relative = {option: str(path).replace("{node}", "..") for option, path in APART.items()}
    joiner = cluster.node(with_server(second, relative))
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert set_files_in(joiner) == []


def test_a_directory_for_temporary_files_in_the_datadir(cluster: Cluster) -> None:
    first, second = (with_server(node, {"tmpdir": "{node}/data/mytmp"}) for node in cluster.self_signed())
    donor, joiner = cluster.node(first), cluster.node(second)
    for node in (donor, joiner):
        (node.datadir / "mytmp").mkdir()
        node.site.account.own(node.datadir)
    donor.bootstrap()
    fill(donor)
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert (joiner.datadir / "mytmp").is_dir()


def test_galera_s_own_files_in_a_directory_of_the_datadir(cluster: Cluster) -> None:
    first, second = (with_server(node, {"wsrep-data-home-dir": "{node}/data/galera"}) for node in cluster.self_signed())
    donor, joiner = cluster.node(first), cluster.node(second)
    for node in (donor, joiner):
        (node.datadir / "galera").mkdir()
        node.site.account.own(node.datadir)
    donor.bootstrap()
    fill(donor)
    joiner.join(donor)
    assert_joined(donor, joiner)
    views = [(node.datadir / "galera" / "gvwstate.dat").read_text() for node in (donor, joiner)]
    assert views[0].splitlines()[0] != views[1].splitlines()[0]  # each node's own identity in the group


def test_binary_logs_with_an_index_elsewhere(cluster: Cluster) -> None:
    binlog: Options = {
        "log-bin": "{node}/elsewhere/events",
        "log-bin-index": "{node}/elsewhere/names.index",
        "log-slave-updates": "ON",
    }
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, with_server(first, {**binlog, "server-id": "1"}))
    donor.sql.run("FLUSH BINARY LOGS")
    joiner = cluster.node(with_server(second, {**binlog, "server-id": "2"}))
    joiner.join(donor)
    assert_joined(donor, joiner)
    last = binary_logs(donor)[-1]
    assert binary_logs(joiner)[0] == last
    received = (joiner.directory / "elsewhere" / last).read_bytes()
    sent = (donor.directory / "elsewhere" / last).read_bytes()
    assert sent[BINLOG_HEADER:].startswith(received[BINLOG_HEADER:])


def test_as_many_binary_logs_travel_as_sst_max_binlogs_says(cluster: Cluster) -> None:
    first, second = (with_sst(node, {"sst-max-binlogs": "2"}) for node in cluster.self_signed())
    donor = bootstrap_with_data(cluster, with_server(first, {"log-bin": "events", "server-id": "1"}))
    for _ in range(3):
        donor.sql.run("FLUSH BINARY LOGS")
    joiner = cluster.node(with_server(second, {"log-bin": "events", "server-id": "2"}))
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert binary_logs(joiner)[:2] == binary_logs(donor)[-2:]


def test_binary_logs_in_the_datadir_under_their_usual_name(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, with_server(first, {"log-bin": None, "server-id": "1"}))
    joiner = cluster.node(with_server(second, {"log-bin": None, "server-id": "2"}))
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert all((joiner.datadir / name).exists() for name in binary_logs(joiner))


def test_options_in_groups_that_have_the_servers_suffix(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, with_suffix(first, server_id="1"))
    joiner = cluster.node(with_suffix(second, server_id="2"))
    joiner.join(donor)
    assert_joined(donor, joiner)
    assert binary_logs(joiner)[0].startswith("of-the-suffixed-group.")
    assert (joiner.datadir / binary_logs(joiner)[0]).exists()


def with_suffix(settings: NodeSettings, server_id: str) -> NodeSettings:
    """The same settings in groups of the suffix `.two`; [sst] itself names files that don't exist."""
    return replace(
        settings,
        sst={"tca": "/nowhere/ca.pem", "tcert": "/nowhere/node.pem"},
        groups={
            "sst.two": settings.sst,
            "mysqld.two": {"log-bin": "of-the-suffixed-group", "server-id": server_id},
        },
        group_suffix=".two",
    )


def set_files_in(node: Node) -> list[str]:
    """Which files of the sets that can live apart are in the node's datadir."""
    return [name for name in SET_FILES if (node.datadir / name).exists()]


def binary_logs(node: Node) -> list[str]:
    """The binary logs that the node's index names."""
    return [row[0] for row in node.sql.rows("SHOW BINARY LOGS")]
