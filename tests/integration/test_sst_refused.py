"""Files that a transfer would find it can't carry, or replace, when the joiner's old data is gone: refused before."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.programs import AS_ANYONE, can_be_anyone, needs
from tests.support.sst import PlayedServer, Run

pytestmark = needs("rsync", "my_print_defaults")

ANYONE = 54321  # as in AS_ANYONE


@pytest.fixture(name="root")
def fixture_root() -> Iterator[Path]:
    """A directory that everybody can enter."""
    with tempfile.TemporaryDirectory(prefix="pytunnel-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(name="pair")
def fixture_pair(root: Path) -> tuple[PlayedServer, PlayedServer]:
    """A donor and a joiner with other data, which trust each other."""
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor, joiner = (
        PlayedServer(root / name).use(own, identities)
        for name, own in zip(("donor", "joiner"), identities, strict=True)
    )
    for server in (donor, joiner):
        (server.datadir / "shop").mkdir()
        (server.datadir / "shop" / "t.ibd").write_text(f"the {server.root.name}'s")
    return donor, joiner


def run_as_anyone(server: PlayedServer) -> None:
    for path in (server.root, *server.root.rglob("*")):
        os.chown(path, ANYONE, ANYONE)
    server.prefix = AS_ANYONE


def assert_refused(run: Run, error: str) -> None:
    assert run.line() == ""
    assert run.end() == 22, run.log
    assert len(run.errors()) == 1, run.log
    assert error in run.errors()[0]
    assert run.server.remains() == []


@needs("setpriv")
@pytest.mark.skipif(not can_be_anyone(), reason="needs root, and a Python that other users may run")
@pytest.mark.parametrize(
    ("kind", "mode", "name"),
    [
        ("file", 0o600, "shop/backup.sql"),
        ("file", 0o600, "ibdata1"),
        ("directory", 0o700, "backup"),
        ("directory", 0o744, "shop/backup"),
    ],
)
def test_what_the_donor_may_not_read_is_named_before_the_flush(
    pair: tuple[PlayedServer, PlayedServer], kind: str, mode: int, name: str
) -> None:
    donor, joiner = pair
    run_as_anyone(donor)
    denied = donor.datadir / name
    if kind == "directory":
        denied.mkdir()
        (denied / "dump.sql").touch()
    else:
        denied.touch()
    denied.chmod(mode)
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    assert_refused(run, f"the server's user may not read {denied}, so rsync could not carry it (1 such files and direc")
    assert (joiner.datadir / "shop" / "t.ibd").read_text() == "the joiner's"
    receiving.process.kill()


def test_a_joiner_s_link_that_leads_nowhere_is_refused_while_its_old_data_is_whole(
    pair: tuple[PlayedServer, PlayedServer],
) -> None:
    joiner = pair[1]
    (joiner.datadir / "stock").symlink_to("/nowhere/stock")
    run = joiner.start_joiner()
    assert_refused(run, f"{joiner.datadir}/stock is a symbolic link to /nowhere/stock, which is not there")
    assert (joiner.datadir / "shop" / "t.ibd").read_text() == "the joiner's"


def test_a_joiner_s_file_in_the_place_of_a_schema_is_told_of_with_what_to_do(
    pair: tuple[PlayedServer, PlayedServer],
) -> None:
    donor, joiner = pair
    (donor.datadir / "stock").mkdir()
    (donor.datadir / "stock" / "t.ibd").touch()
    (joiner.datadir / "stock").touch()
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready())
    sending.expect("flush tables")
    donor.flush()
    assert sending.line() == ""
    for run in (sending, receiving):
        assert run.end() != 0
        assert "the joiner has a file or a link where a directory of the donor's should go" in run.errors()[0]
