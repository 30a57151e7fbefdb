"""Transfers on other systems than a current kernel, and for other servers than MariaDB."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.programs import needs
from tests.support.sst import GTID, INNODB, POSITION, PlayedServer, Ready, refused

pytestmark = needs("rsync", "my_print_defaults")

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
    for name in INNODB:
        (donor.datadir / name).touch()
    return donor, joiner


@pytest.mark.parametrize(
    ("call", "number"), [("pidfd_open", errno.EPERM), ("pidfd_open", errno.ENOSYS), ("unshare", errno.EPERM)]
)
def test_a_transfer_runs_where_a_system_call_is_refused(pair: Pair, call: str, number: int) -> None:
    donor, joiner = pair
    for server in pair:
        server.prefix = refused(call, number)
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
    joiner.prefix = refused("pidfd_open", errno.EPERM)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        run = joiner.start_joiner("--parent", str(server.pid))
        run.ready()
        server.kill()
    assert run.end() == 32
    assert "the database server that asked for this transfer has gone" in run.errors()[0]
    assert joiner.remains() == []


@pytest.fixture(name="mysql_pair")
def fixture_mysql_pair(pair: Pair, tmp_path: Path) -> Pair:
    """The two as servers without GTID domains, whose my_print_defaults has no --mysqld."""
    program = tmp_path / "bin" / "my_print_defaults"
    program.parent.mkdir()
    refusing = "echo \"unknown option '--mysqld'\" >&2; exit 2"
    real = shutil.which("my_print_defaults")
    program.write_text(f'#!/bin/sh\ncase "$*" in *--mysqld) {refusing} ;; esac\nexec {real} "$@"\n')
    program.chmod(0o755)
    for server in pair:
        server.position = GTID
        server.prefix = ("env", f"PATH={program.parent}:{os.environ['PATH']}")
    return pair


def test_servers_without_gtid_domains_are_told_the_position_as_they_write_it(mysql_pair: Pair) -> None:
    donor, joiner = mysql_pair
    receiving = joiner.start_joiner("--mysqld-version", "8.0.36-28.1", "")
    ready = receiving.ready()
    sending = donor.start("donor", ready.address, "--gtid", GTID, "", environment=secret_of(ready))
    sending.expect("flush tables")
    donor.flush()
    sending.expect("continue")
    sending.expect(f"done {GTID}")
    receiving.expect(GTID)
    assert (sending.end(), receiving.end()) == (0, 0), sending.log
    assert (joiner.datadir / "shop" / "t.ibd").read_text() == "rows"


def test_ist_between_servers_without_gtid_domains_sends_the_position_as_it_was_passed(mysql_pair: Pair) -> None:
    donor, joiner = mysql_pair
    receiving = joiner.start_joiner()
    ready = receiving.ready()
    sending = donor.start("donor", ready.address, "--gtid", GTID, "--bypass", environment=secret_of(ready))
    sending.expect("continue")
    sending.expect(f"done {GTID}")
    receiving.expect(GTID)
    assert (sending.end(), receiving.end()) == (0, 0), sending.log


def secret_of(ready: Ready) -> dict[str, str]:
    assert ready.secret is not None
    return {"WSREP_SST_OPT_REMOTE_AUTH": ready.secret}


def test_a_data_dictionary_that_would_stay_behind_is_refused_before_the_flush(pair: Pair) -> None:
    donor, joiner = pair
    (donor.datadir / "mysql.ibd").touch()
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    assert run.line() == ""
    assert run.end() == 22
    assert f"{donor.datadir}/mysql.ibd is a tablespace outside of the schemas" in run.errors()[0]
    receiving.process.kill()
