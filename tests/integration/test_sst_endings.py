"""Every way in which a transfer can end: the old data is safe, the log has one clear error, nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.programs import needs
from tests.support.sst import GTID, LIMIT, PlayedServer, Ready, assert_ended, assert_old_data

pytestmark = needs("rsync", "my_print_defaults")


def assert_closed(ready: Ready) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ready.port), LIMIT)


def test_a_joiner_told_to_end_leaves_nothing(joiner: PlayedServer) -> None:
    run = joiner.start_joiner()
    ready = run.ready()
    run.process.send_signal(signal.SIGTERM)
    assert_ended(run, "ended by SIGTERM", 32)
    assert_closed(ready)


def test_a_joiner_whose_server_died_leaves_nothing(joiner: PlayedServer) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        run = joiner.start_joiner("--parent", str(server.pid))
        ready = run.ready()
        server.kill()
        assert_ended(run, "the database server that asked for this transfer has gone", 32)
    assert_closed(ready)


def test_a_joiner_whose_output_is_closed_leaves_nothing(joiner: PlayedServer) -> None:
    run = joiner.start_joiner()
    run.ready()
    assert run.process.stdout is not None
    run.process.stdout.close()
    assert_ended(run, "has gone", 32)


def test_a_joiner_told_to_end_midway_ends_its_rsync_too(joiner: PlayedServer, donor: PlayedServer) -> None:
    with (donor.datadir / "shop" / "big.ibd").open("wb") as file:
        file.truncate(2**34)
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready())
    sending.expect("flush tables")
    donor.flush()
    wait_until(lambda: (joiner.datadir / "shop" / "big.ibd").exists())
    receiving.process.send_signal(signal.SIGTERM)
    assert_ended(receiving, "ended by SIGTERM", 32)
    assert sending.end() != 0
    assert len(sending.errors()) == 1, sending.log
    assert sending.line() == ""
    assert donor.remains() == []
    assert [pid for pid in rsyncs() if str(joiner.root) in pid or str(donor.root) in pid] == []


def test_a_donor_told_to_end_while_it_waits_leaves_nothing(joiner: PlayedServer, donor: PlayedServer) -> None:
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    run.expect("flush tables")
    run.process.send_signal(signal.SIGTERM)
    assert_ended(run, "ended by SIGTERM", 32)
    assert_old_data(joiner)
    receiving.process.kill()


def test_a_flush_that_failed_ends_the_donor(joiner: PlayedServer, donor: PlayedServer) -> None:
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    run.expect("flush tables")
    (donor.datadir / "sst_error").touch()
    assert_ended(run, "the server could not flush its tables", 255)
    assert_old_data(joiner)
    receiving.process.kill()


def test_a_donor_without_the_secret_is_not_let_in(joiner: PlayedServer, donor: PlayedServer) -> None:
    receiving = joiner.start_joiner()
    ready = receiving.ready()
    run = donor.start_donor(Ready(ready.address, "pytunnel:wrong"))
    assert run.line() == ""
    assert_ended(run, "does this donor know the secret", 255)
    assert_old_data(joiner)
    receiving.process.kill()


def test_a_directory_that_the_joiner_has_lost_is_no_matter_of_the_secret(
    joiner: PlayedServer, donor: PlayedServer
) -> None:
    joiner.server_options["aria-log-dir-path"] = str(joiner.root / "aria")
    receiving = joiner.start_joiner()
    ready = receiving.ready()
    (joiner.root / "aria").rmdir()
    run = donor.start_donor(ready)
    run.expect("flush tables")
    donor.flush()
    assert run.line() == ""
    assert_ended(run, "the joiner's rsync refused, or did not start; the joiner's log may say why (@ERROR: chdir", 255)
    receiving.process.kill()


def test_a_joiner_with_another_name_is_refused_by_the_donor(joiner: PlayedServer, donor: PlayedServer) -> None:
    other = self_signed("evil.my.cluster")
    joiner.use(other, [other])
    joiner.options["sockopt"] = "commonname=evil.my.cluster"
    donor.use(self_signed("localhost"), [other])
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    assert_ended(run, "presented CN=evil.my.cluster, expected 127.0.0.1 or localhost", 32)
    assert_old_data(joiner)
    receiving.process.kill()


def test_a_donor_that_the_joiner_does_not_trust_is_refused(joiner: PlayedServer, donor: PlayedServer) -> None:
    stranger = self_signed("localhost")
    bundle = Path(donor.options["tca"]).read_bytes()
    donor.use(stranger, [stranger])
    Path(donor.options["tca"]).write_bytes(bundle)
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    assert_ended(run, "did not accept our certificate", 32)
    assert "can't be trusted: it is self-signed and not in our CA file" in receiving.log
    assert_old_data(joiner)
    receiving.process.kill()


def test_a_set_may_be_behind_a_link(joiner: PlayedServer, donor: PlayedServer) -> None:
    for server in (joiner, donor):
        (server.root / "disk").mkdir()
        (server.datadir / "redo").symlink_to(server.root / "disk")
        server.server_options["innodb-log-group-home-dir"] = "redo"
    (donor.root / "disk" / "ib_logfile0").write_text("new")
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready())
    sending.expect("flush tables")
    donor.flush()
    assert (sending.end(), receiving.end()) == (0, 0), sending.log
    assert (joiner.root / "disk" / "ib_logfile0").read_text() == "new"
    assert (joiner.datadir / "redo").is_symlink()


def test_a_donor_told_to_end_while_it_packs_binlogs_packs_no_further(joiner: PlayedServer, donor: PlayedServer) -> None:
    donor.server_options["log-bin"] = "bin"
    (donor.datadir / "bin.000001").touch()
    os.truncate(donor.datadir / "bin.000001", 2**31)
    (donor.datadir / "bin.index").write_text("./bin.000001\n")
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    run.expect("flush tables")
    donor.flush()
    wait_until(lambda: (donor.datadir / "wsrep_sst_binlog.tar").exists())
    run.process.send_signal(signal.SIGTERM)
    assert_ended(run, "ended by SIGTERM", 32)
    assert "binlogs that go with the snapshot" not in run.log
    assert_old_data(joiner)
    receiving.process.kill()


def test_a_file_that_vanishes_during_the_transfer_was_a_temporary_one(
    joiner: PlayedServer, donor: PlayedServer
) -> None:
    listed = donor.datadir / "shop" / "#sql-1.ibd"
    listed.touch()
    (donor.datadir / "shop" / "big.ibd").write_bytes(bytes(2**26))
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready())
    sending.expect("flush tables")
    donor.flush()
    wait_until(lambda: "snapshot of" in sending.log)
    listed.unlink(missing_ok=True)
    sending.expect("continue")
    assert (sending.end(), receiving.end()) == (0, 0), sending.log
    assert (joiner.datadir / "shop" / "big.ibd").stat().st_size == 2**26


def test_a_file_that_the_joiner_can_not_take_ends_the_transfer(joiner: PlayedServer, donor: PlayedServer) -> None:
    joiner.server_options["aria-log-dir-path"] = "shop"  # which is a schema on the donor
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready())
    sending.expect("flush tables")
    donor.flush()
    assert sending.line() == ""
    assert_ended(sending, "rsync ended with code 23: some files could not be transferred", 255)
    receiving.process.kill()


@pytest.mark.parametrize("kind", ["directory", "pipe", "garbage"])
def test_a_state_file_that_is_none_ends_the_joiner_and_goes_with_it(
    joiner: PlayedServer, donor: PlayedServer, kind: str
) -> None:
    receiving = joiner.start_joiner()
    ready = receiving.ready()
    state = joiner.datadir / "rsync_tunnel_sst_complete"
    if kind == "directory":
        state.mkdir()
    elif kind == "pipe":
        os.mkfifo(state)
    else:
        state.write_bytes(b"\xff" * 9000)
    sending = donor.start_donor(ready)  # a connection of it that ends makes the joiner look
    assert_ended(receiving, "rsync_tunnel_sst_complete, which the donor sent, is n", 255)
    sending.process.kill()


def test_garbage_on_the_port_disturbs_nothing(joiner: PlayedServer, donor: PlayedServer) -> None:
    receiving = joiner.start_joiner()
    ready = receiving.ready()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", ready.port), LIMIT) as stranger:
            stranger.sendall(b"@RSYNCD: 31.0\n#list\n")
    sending = donor.start_donor(ready, "--bypass")
    sending.expect("continue")
    assert (sending.end(), receiving.end()) == (0, 0)
    assert GTID in receiving.line()


def test_what_a_killed_joiner_left_is_removed_by_the_next(joiner: PlayedServer, donor: PlayedServer) -> None:
    killed = joiner.start_joiner()
    killed.ready()
    killed.process.kill()
    killed.end()
    assert joiner.remains() != []
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready(), "--bypass")
    assert (sending.end(), receiving.end()) == (0, 0)
    assert joiner.remains() == []


@pytest.mark.parametrize("name", ["sst_in_progress", "rsync_tunnel_sst_complete", "wsrep_sst_binlog.tar"])
def test_what_a_killed_joiner_left_is_removed_when_the_node_donates(
    joiner: PlayedServer, donor: PlayedServer, name: str
) -> None:
    (donor.datadir / name).touch()
    receiving = joiner.start_joiner()
    ready = receiving.ready()
    sending = donor.start_donor(ready, "--bypass")
    sending.expect("continue")
    assert (sending.end(), receiving.end()) == (0, 0)
    assert donor.remains() == []


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def rsyncs() -> list[str]:
    """The command lines and working directories of all rsync processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
            if "rsync" in command.split(" ")[0]:
                found.append(f"{command} in {(process / 'cwd').readlink()}")
        except OSError:
            continue
    return found
