"""Two played nodes for the faults that need no real server; a cluster of real ones for those that do."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.cluster.conftest import cluster, named_hosts, network, pair, site
from tests.support.sst import PlayedServer

pytest.register_assert_rewrite("tests.faults.nodes")

from tests.faults.nodes import SIZE  # noqa: E402 - pytest must know of it first, to explain its asserts

__all__ = ["cluster", "named_hosts", "network", "pair", "site"]  # fixtures


@pytest.fixture(name="donor")
def fixture_donor(tmp_path: Path) -> PlayedServer:
    """A node with its privilege tables, a redo log, and one table of random bytes."""
    server = PlayedServer(tmp_path / "donor")
    for schema in ("shop", "mysql"):
        (server.datadir / schema).mkdir()
    with Path("/dev/urandom").open("rb") as random, (server.datadir / "shop" / "t.ibd").open("wb") as file:
        file.write(random.read(SIZE))
    (server.datadir / "mysql" / "db.MAD").write_text("who may do what")
    (server.datadir / "ib_logfile0").write_text("what was done last")
    return server


@pytest.fixture(name="joiner")
def fixture_joiner(tmp_path: Path, donor: PlayedServer) -> PlayedServer:
    """A node with older data of the same tables; it and the donor trust each other."""
    server = PlayedServer(tmp_path / "joiner")
    for schema in ("shop", "mysql"):
        (server.datadir / schema).mkdir()
    (server.datadir / "shop" / "t.ibd").write_bytes(bytes(SIZE))
    (server.datadir / "mysql" / "db.MAD").write_text("who might do what")
    (server.datadir / "ib_logfile0").write_text("what was done before")
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor.use(identities[0], identities)
    return server.use(identities[1], identities)
