"""Transfers on other systems than a current kernel, and for other servers than MariaDB."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.programs import needs
from tests.support.sst import POSITION, PlayedServer

pytestmark = needs("rsync", "my_print_defaults")

WITHOUT_PIDFD = Path(__file__).parents[1] / "support" / "without_pidfd.py"
Pair = tuple[PlayedServer, PlayedServer]


@pytest.fixture(name="pair")
def fixture_pair(tmp_path: Path) -> Pair:
    """A donor with one table and a joiner, which trust each other."""
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor, joiner = (
        PlayedServer(tmp_path / name).use(own, identities)
        for name, own in zip(("donor", "joiner"), identities, strict=True)
    )
    (donor.datadir / "shop").mkdir()
    (donor.datadir / "shop" / "t.ibd").write_text("rows")
    return donor, joiner


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS])
def test_a_transfer_runs_where_pidfd_open_is_refused(pair: Pair, refusal: int) -> None:
    donor, joiner = pair
    for server in pair:
        server.prefix = (sys.executable, str(WITHOUT_PIDFD), str(refusal))
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready())
    sending.expect("flush tables")
    donor.flush()
    sending.expect("continue")
    receiving.expect(POSITION)
    assert (sending.end(), receiving.end()) == (0, 0), sending.log
    assert (joiner.datadir / "shop" / "t.ibd").read_text() == "rows"


def test_a_server_s_death_is_noticed_where_pidfd_open_is_refused(pair: Pair) -> None:
    joiner = pair[1]
    joiner.prefix = (sys.executable, str(WITHOUT_PIDFD), str(errno.EPERM))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        run = joiner.start_joiner("--parent", str(server.pid))
        run.ready()
        server.kill()
    assert run.end() == 32
    assert "the database server that asked for this transfer has gone" in run.errors()[0]
    assert joiner.remains() == []
