"""Sample data for a cluster: what a database server keeps in different ways, each in some rows."""

from __future__ import annotations

from lab import LabError
from lab.mariadb import Node

# It is in each row that `fill` writes, so a capture of the network shows whether rows travel in clear text.
MARKER = "these-words-must-not-be-seen-on-the-wire"
_FILL_LIMIT = 120.0
_ROW_BYTES = 1000
_MOST_ROWS = 1_000_000

# InnoDB is replicated row by row; Aria and MyISAM tables reach a joiner only by the state transfer.
_SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id INT PRIMARY KEY, note VARCHAR(2000), KEY (note(20))) ENGINE=InnoDB;
CREATE TABLE shop.parts (id INT PRIMARY KEY, note VARCHAR(200)) ENGINE=InnoDB
    PARTITION BY HASH (id) PARTITIONS 3;
CREATE TABLE shop.settings (name VARCHAR(40) PRIMARY KEY, value VARCHAR(200)) ENGINE=Aria TRANSACTIONAL=1;
CREATE TABLE shop.words (word VARCHAR(200)) ENGINE=MyISAM;
CREATE VIEW shop.latest AS SELECT MAX(id) AS id FROM shop.orders;
CREATE PROCEDURE shop.order_count() SELECT COUNT(*) FROM shop.orders;
CREATE USER reader@localhost;
GRANT SELECT ON shop.* TO reader@localhost;
CREATE SCHEMA `weird name-é`;
CREATE TABLE `weird name-é`.`tä ble` (id INT PRIMARY KEY) ENGINE=InnoDB;
INSERT INTO `weird name-é`.`tä ble` VALUES (1), (2);
USE shop;
INSERT INTO orders SELECT seq, CONCAT(seq, REPEAT(CONCAT(' ', @marker), @repeats))
    FROM seq_1_to_1000000 WHERE seq <= @rows;
INSERT INTO parts SELECT seq, @marker FROM seq_1_to_100;
INSERT INTO settings SELECT seq, @marker FROM seq_1_to_100;
INSERT INTO words SELECT @marker FROM seq_1_to_100;
"""


def fill(node: Node, megabytes: float = 1.0) -> None:
    """Make schemas of all sorts, with about `megabytes` of rows. Raises LabError for more than 1000."""
    rows = max(1, int(megabytes * 1_000_000 / _ROW_BYTES))
    if rows > _MOST_ROWS:
        raise LabError(f"{megabytes} MB of sample data is more than the {_MOST_ROWS} rows that are foreseen")
    sizes = f"SET @marker = '{MARKER}', @repeats = {_ROW_BYTES // len(MARKER)}, @rows = {rows};"
    node.sql.run(sizes + _SCHEMA, _FILL_LIMIT)


def procedure_runs(node: Node) -> bool:
    """Whether a stored procedure of `fill` answers: it can't where the Aria files are missing or torn."""
    return int(node.sql.value("CALL shop.order_count()")) > 0
