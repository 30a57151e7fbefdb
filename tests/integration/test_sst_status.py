"""A running transfer can be asked how it is, through a socket in its datadir that no transfer touches."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from lab.certificates import self_signed
from pytunnel.status.address import STATUS_SOCKET
from tests.support.programs import needs
from tests.support.sst import LIMIT, PlayedServer, finish
from tests.support.tunnels import pytunnel, ran

pytestmark = needs("rsync", "my_print_defaults")

# The joiner's rsync for one connection over pipes; started as inetd does it would demand a socket.
DAEMON = "sh -c 'exec rsync --server --daemon --config=$CONFIG .'"
Pair = tuple[PlayedServer, PlayedServer]


@pytest.fixture(name="pair")
def fixture_pair(tmp_path: Path) -> Pair:
    """A donor with a schema, and a joiner, which trust each other; both are localhost."""
    return make_pair(tmp_path)


def make_pair(folder: Path) -> Pair:
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor, joiner = (
        PlayedServer(folder / name).use(own, identities)
        for name, own in zip(("donor", "joiner"), identities, strict=True)
    )
    (donor.datadir / "shop").mkdir()
    (donor.datadir / "shop" / "t.ibd").write_text("x" * 1000)
    return donor, joiner


def asked(server: PlayedServer, *options: str) -> subprocess.CompletedProcess[str]:
    """`pytunnel status` for the datadir of `server`."""
    return ran(pytunnel("status", "--datadir", str(server.datadir), *options))


def status_of(server: PlayedServer) -> Any:
    done = asked(server, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_both_ends_of_a_transfer_tell_how_it_is_as_long_as_it_runs(pair: Pair) -> None:
    donor, joiner = pair
    joining = joiner.start_joiner()
    ready = joining.ready()
    waiting = status_of(joiner)
    assert (waiting["transfer"]["role"], waiting["transfer"]["peer"]) == ("joiner", "nobody yet")
    assert (waiting["transfer"]["moved"], waiting["transfer"]["total"]) == (0, None)
    donating = donor.start_donor(ready)
    donating.expect("flush tables")
    sending = status_of(donor)
    assert (sending["transfer"]["role"], sending["tunnels"][0]["target"]) == ("donor", f"127.0.0.1:{ready.port}")
    assert sending["tunnels"][0]["outcomes"] == [{"outcome": "completed", "reason": "", "count": 2}]
    assert [each["subject"] for each in sending["tunnels"][0]["certificates"]] == 3 * ["/CN=localhost"]
    assert "localhost" in status_of(joiner)["transfer"]["peer"]
    donor.flush()
    finish(donating, joining)
    assert [server.remains() for server in pair] == [[], []]


def test_only_the_server_s_user_may_ask(pair: Pair) -> None:
    joining = pair[1].start_joiner()
    joining.ready()
    assert stat.S_IMODE((pair[1].datadir / STATUS_SOCKET).stat().st_mode) == 0o600
    joining.process.terminate()
    joining.end()
    assert pair[1].remains() == []


def test_the_secret_of_the_transfer_is_not_told(pair: Pair) -> None:
    joining = pair[1].start_joiner()
    secret = joining.ready().secret
    assert secret is not None
    assert secret.partition(":")[2] not in json.dumps(status_of(pair[1]))
    joining.process.terminate()
    joining.end()


def test_a_person_reads_it_as_text(pair: Pair) -> None:
    joining = pair[1].start_joiner()
    joining.ready()
    said = asked(pair[1])
    assert said.returncode == 0
    assert "state transfer as joiner with nobody yet, for " in said.stdout
    joining.process.terminate()
    joining.end()


def test_a_killed_transfer_s_socket_is_told_from_a_running_one_and_replaced(pair: Pair) -> None:
    donor, joiner = pair
    for number in range(2):
        joining = joiner.start_joiner()
        ready = joining.ready()
        assert status_of(joiner)["transfer"]["role"] == "joiner"
        if number == 0:
            joining.process.send_signal(signal.SIGKILL)
            joining.end()
            assert (joiner.datadir / STATUS_SOCKET).is_socket()
            assert asked(joiner).stderr == f"pytunnel: no state transfer runs in {joiner.datadir}\n"
    donating = donor.start_donor(ready)
    donating.expect("flush tables")
    donor.flush()
    finish(donating, joining)
    assert joiner.remains() == []


def test_where_no_transfer_runs_that_is_said(pair: Pair) -> None:
    said = asked(pair[0])
    assert (said.returncode, said.stderr) == (1, f"pytunnel: no state transfer runs in {pair[0].datadir}\n")


def test_a_transfer_that_may_not_be_asked_is_told_from_none(pair: Pair) -> None:
    with socket.socket(socket.AF_UNIX) as other_program:
        other_program.bind(str(pair[0].datadir / STATUS_SOCKET))
        other_program.listen()
        threading.Thread(target=answer_strangely, args=(other_program,), daemon=True).start()
        said = asked(pair[0])
    assert said.returncode == 1
    assert f"{pair[0].datadir / STATUS_SOCKET} gives no status of pytunnel's" in said.stderr


def answer_strangely(listener: socket.socket) -> None:
    connection = listener.accept()[0]
    with connection:
        connection.recv(1000)
        connection.sendall(b"no HTTP\r\n\r\n")


def test_a_file_in_the_socket_s_place_is_left_alone_and_the_transfer_goes_on(pair: Pair) -> None:
    donor, joiner = pair
    precious = joiner.datadir / STATUS_SOCKET
    precious.write_text("precious")
    joining = joiner.start_joiner()
    donating = donor.start_donor(joining.ready())
    donating.expect("flush tables")
    donor.flush()
    finish(donating, joining)
    assert precious.read_text() == "precious"
    assert "nobody can ask how the transfer is: can't listen on" in joining.log


@pytest.mark.parametrize("legacy", ["0", "1"])
def test_no_donor_can_delete_or_replace_the_joiner_s_socket(pair: Pair, legacy: str) -> None:
    """The joiner's own filter protects it, also from an old donor that deletes whatever it has not."""
    _, joiner = pair
    joiner.options["legacy-donor"] = legacy
    (joiner.datadir / "old_schema").mkdir()
    empty, full = joiner.root / "empty", joiner.root / "full"
    for source in (empty, full):
        source.mkdir()
    (full / STATUS_SOCKET).write_text("from the donor")
    joining = joiner.start_joiner()
    joining.ready()
    for source in (empty, full):
        send(joiner, source, "--recursive", "--delete")
    assert not (joiner.datadir / "old_schema").exists()
    assert status_of(joiner)["transfer"]["role"] == "joiner"
    joining.process.terminate()
    joining.end()


def send(joiner: PlayedServer, source: Path, *options: str) -> None:
    """Let rsync write into the datadir of a joiner whose secret it knows, as far as it may."""
    (config,) = joiner.tmpdir.glob("pytunnel-*/rsyncd.conf")
    secrets = config.parent / "secrets"
    password = secrets.read_text().strip().partition(":")[2] if secrets.exists() else ""
    user = "pytunnel@" if password else ""
    subprocess.run(
        ["rsync", f"--rsh={DAEMON}", *options, f"{source}/", f"{user}joiner::rsync_tunnel_sst/"],
        env=os.environ | {"RSYNC_PASSWORD": password, "CONFIG": str(config)},
        capture_output=True,
        check=False,
        timeout=LIMIT,
    )


def test_a_datadir_may_have_a_longer_path_than_a_socket(tmp_path: Path) -> None:
    _, joiner = make_pair(tmp_path / ("long" * 30))
    joining = joiner.start_joiner()
    joining.ready()
    assert status_of(joiner)["transfer"]["role"] == "joiner"
    joining.process.terminate()
    joining.end()
    assert joiner.remains() == []
