"""Whether two nodes hold the same data, and whether they work."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from lab.mariadb import Node

_CHECKSUM_LIMIT = 60.0
# Each node has its own: logs, statistics, and what Galera notes about the cluster as this node sees it.
_OWN_TO_EACH_NODE = frozenset(
    {
        "mysql.general_log",
        "mysql.slow_log",
        "mysql.innodb_index_stats",
        "mysql.innodb_table_stats",
        "mysql.gtid_slave_pos",
        "mysql.wsrep_cluster",
        "mysql.wsrep_cluster_members",
        "mysql.wsrep_streaming_log",
    }
)
_TABLES = """
SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables
WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('information_schema', 'performance_schema')
ORDER BY 1
"""
_WRITE = """
CREATE SCHEMA IF NOT EXISTS replicated;
CREATE TABLE IF NOT EXISTS replicated.words (word VARCHAR(40) PRIMARY KEY) ENGINE=InnoDB;
INSERT INTO replicated.words VALUES (@word);
"""
_READ = "SELECT COUNT(*) FROM replicated.words WHERE word = @word"


@dataclass(frozen=True, slots=True)
class Difference:
    """A table whose contents differ; None where a node has no such table."""

    table: str
    first: str | None
    second: str | None


def checksums(node: Node) -> dict[str, str]:
    """The checksum of every table of every schema that all nodes must agree on, by `schema.table`."""
    # The node may have writes of the others to apply yet.
    tables = [row[0] for row in node.sql.rows(f"SET SESSION wsrep_sync_wait=15; {_TABLES}")]
    shared = [table for table in tables if table not in _OWN_TO_EACH_NODE]
    quoted = ", ".join("`{}`.`{}`".format(*table.split(".", 1)) for table in shared)
    rows = node.sql.rows(f"SET SESSION wsrep_sync_wait=15; CHECKSUM TABLE {quoted} EXTENDED", _CHECKSUM_LIMIT)
    return {row[0]: row[1] for row in rows}


def differences(first: Node, second: Node) -> list[Difference]:
    """The tables in which two nodes differ."""
    ours, theirs = checksums(first), checksums(second)
    tables = sorted(ours.keys() | theirs.keys())
    return [
        Difference(table, ours.get(table), theirs.get(table))
        for table in tables
        if ours.get(table) != theirs.get(table)
    ]


def replicates(writer: Node, reader: Node) -> bool:
    """Whether a row written on one node is read on the other; a node that can't write raises LabError."""
    word = f"SET @word = '{secrets.token_hex(8)}', SESSION wsrep_sync_wait = 15;"
    writer.sql.run(word + _WRITE)
    return reader.sql.value(word + _READ) == "1"
