"""`pytunnel doctor` on real option files and certificates: a healthy node, and each classic failure."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lab.certificates import authority, expired, issued
from pytunnel.cli import main as cli
from tests.support.doctor import CA, CHECKOUT, HOST, Doctor, Node, Row
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, pytunnel

pytestmark = needs("my_print_defaults", "rsync", "openssl")

NOBODY = 65534


def test_a_healthy_node_has_no_warning_and_exit_code_0(node: Node) -> None:
    node.write()
    command = pytunnel("doctor", "--defaults-file", str(node.option_file))
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT / "src"), "COLUMNS": "80"}
    with node.running():
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert " 0 warnings, 0 faults" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout


def test_the_server_s_own_path_decides_where_the_method_is(node: Node, doctor: Doctor) -> None:
    with node.running():
        assert str(CHECKOUT) in doctor().of("SST method").text


def test_a_program_of_the_method_s_name_that_is_not_ours_is_told(node: Node, doctor: Doctor) -> None:
    script = node.root / "bin" / "wsrep_sst_rsync_tunnel"
    script.write_text("#!/bin/sh\nexec socat\n")
    script.chmod(0o755)
    with node.running():
        assert "socat script" in doctor().of("SST method").text


def test_a_method_that_is_nowhere_on_the_server_s_path_is_a_fault(node: Node, doctor: Doctor) -> None:
    node.server["wsrep-sst-method"] = "carrier_pigeon"
    assert doctor().of("SST method").status == "fault"


def test_warnings_alone_are_exit_code_1(node: Node, doctor: Doctor) -> None:
    del node.server["require-secure-transport"]
    with node.running():
        report = doctor()
    assert (report.code, report.bad()) == (1, [("client channel", "warning")])


def expire(node: Node) -> None:
    node.use(expired(CA, HOST))


def expire_soon(node: Node) -> None:
    node.use(issued(CA, HOST, end=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=7, hours=1)))


def rename(node: Node) -> None:
    node.use(issued(CA, "node2.my.cluster"))


def change_ca(node: Node) -> None:
    node.use(issued(authority("Other"), HOST))


def swap_keys(node: Node) -> None:
    node.use(issued(CA, HOST), key=CA)


def lose_key(node: Node) -> None:
    (node.root / "tls" / "node.key").unlink()


def open_key(node: Node) -> None:
    (node.root / "tls" / "node.key").chmod(0o644)


def break_options(node: Node) -> None:
    node.sst["tca"] = node.sst["tcert"] = node.sst["tkey"] = ""


def no_certificates(node: Node) -> None:
    node.sst.clear()
    for key in ("ssl-ca", "ssl-cert", "ssl-key"):
        del node.server[key]


def server(**values: str) -> Callable[[Node], None]:
    """A change of options of `[mysqld]`."""
    return lambda node: node.server.update({key.replace("_", "-"): value for key, value in values.items()})


def sst(**values: str) -> Callable[[Node], None]:
    """A change of keys of `[sst]`."""
    return lambda node: node.sst.update({key.replace("_", "-"): value for key, value in values.items()})


EVERY_USE = "client, replication, SST"


@pytest.mark.parametrize(
    ("change", "check", "status", "word"),
    [
        (expire, f"{EVERY_USE} certificate", "fault", "expired"),
        (expire_soon, f"{EVERY_USE} certificate", "warning", "expires in 7 days"),
        (rename, "certificate's name", "fault", "CN=node2.my.cluster"),
        (change_ca, f"{EVERY_USE} certificate", "fault", "not in our CA file"),
        (swap_keys, f"{EVERY_USE} certificate", "fault", "does not belong to the certificate"),
        (lose_key, f"{EVERY_USE} certificate", "fault", "does not exist"),
        (open_key, f"{EVERY_USE} certificate", "warning", "open to every user"),
        (break_options, "SST settings", "fault", "empty"),
        (no_certificates, "SST settings", "fault", "no certificate is configured"),
        (sst(sockopt="verify=0"), "verification", "warning", "not verified"),
        (sst(sockopt="verifi=0"), "[sst] keys", "fault", "verifi"),
        (sst(sockopt="cipher=nonsense"), "SST TLS", "fault", "no cipher"),
        (sst(backup_threads="many"), "[sst] keys", "fault", "backup-threads"),
        (sst(sst_max_binlogs="few"), "[sst] keys", "fault", "sst-max-binlogs"),
        (sst(encrypt="1"), "SST settings", "fault", "encrypt=1"),
        (sst(tcerts="/x"), "[sst] keys", "warning", "tcerts"),
        (sst(legacy_donor="1"), "legacy-donor", "warning", "secret"),
        (server(tcert="/x"), "[sst] keys", "fault", "won't start"),
        (server(wsrep_on="OFF"), "cluster", "fault", "wsrep_on"),
        (server(wsrep_provider="/nowhere.so"), "cluster", "fault", "/nowhere.so"),
        (server(wsrep_cluster_address="gcomm://10.0.0.2"), "announced address", "fault", HOST),
        (server(wsrep_sst_receive_address="no-such-host.invalid"), "DNS", "fault", "can't be resolved"),
        (server(wsrep_sst_receive_address="node1:99999"), "announced address", "fault", "99999"),
        (server(wsrep_provider_options="gcache.size=1G"), "replication channel", "warning", "not encrypted"),
        (server(wsrep_sst_method="rsync"), "SST channel", "ok", "stunnel"),
        (server(wsrep_sst_method="mariabackup"), "SST channel", "warning", "not encrypted"),
        (server(innodb_undo_directory="undo"), "directories", "warning", "data/undo does not exist"),
        (server(tmpdir="."), "directories", "warning", "lies in the datadir"),
        (server(user="no-such-user"), "server's user", "fault", "no-such-user"),
        (server(file_key_management_filename="/nowhere"), "encryption at rest", "fault", "/nowhere"),
    ],
)
def test_a_classic_failure_has_its_row(
    node: Node, doctor: Doctor, change: Callable[[Node], None], check: str, status: str, word: str
) -> None:
    if word == "stunnel" and shutil.which("stunnel") is None:
        pytest.skip("stunnel is not installed")
    change(node)
    report = doctor()
    row = report.of(check)
    assert (row.status, word in f"{row.text} {row.advice}") == (status, True), row
    assert report.code == max({"ok": 0, "warning": 1, "fault": 2}[row.status] for row in report.rows)


def test_a_port_that_another_program_has_is_a_fault(node: Node, doctor: Doctor) -> None:
    with socket.create_server((HOST, 0)) as other:
        node.server["wsrep-sst-receive-address"] = f"{HOST}:{other.getsockname()[1]}"
        assert doctor().of("port").status == "fault"
        with node.running():
            assert doctor().of("port").status == "warning"


def test_the_port_of_web_sockets_counts_where_a_joiner_listens_for_them(node: Node, doctor: Doctor) -> None:
    with socket.create_server((HOST, 0)) as other:
        node.sst["listen"] = f"ws://{HOST}:{other.getsockname()[1]}/sst"
        assert doctor().of("port").status == "fault"
    assert doctor().of("port").status == "ok"


def test_files_are_looked_at_even_where_another_key_is_refused(node: Node, doctor: Doctor) -> None:
    node.sst["sockopt"] = "verifi=0"
    lose_key(node)
    report = doctor()
    assert report.of("[sst] keys").status == "fault"
    assert "does not exist" in report.of(f"{EVERY_USE} certificate").text


def test_files_of_the_server_s_own_methods_are_looked_at_too(node: Node, doctor: Doctor) -> None:
    node.server["wsrep-sst-method"] = "mariabackup"
    lose_key(node)
    assert "does not exist" in doctor().of(f"{EVERY_USE} certificate").text


def test_option_files_that_can_not_be_read_are_a_fault(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--defaults-file", str(node.root / "missing.cnf")]) == 2
    assert "missing.cnf" in capsys.readouterr().out


def test_groups_with_a_suffix_are_read_as_the_server_reads_them(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.write()
    with node.option_file.open("a") as file:
        file.write("[sst.2]\nbackup-threads = many\n")
    arguments = ["--defaults-extra-file", str(node.option_file), "--json"]
    for suffix, expected in (([], False), (["--defaults-group-suffix", ".2"], True)):
        cli.run(["doctor", *arguments, *suffix])
        assert ("backup-threads" in capsys.readouterr().out) is expected


@pytest.mark.parametrize(("role", "expected"), [("joiner", True), ("donor", False)])
def test_one_role_alone_can_be_asked_for(node: Node, doctor: Doctor, role: str, expected: bool) -> None:
    rename(node)
    assert ("certificate's name" in {row.check for row in doctor("--role", role).rows}) is expected


def test_roles_with_files_of_their_own_have_rows_of_their_own(node: Node, doctor: Doctor) -> None:
    files = {key: node.sst.pop(key) for key in ("tca", "tcert", "tkey")}
    missing = str(node.root / "tls" / "donor.crt")
    node.sst |= {"ssl-ca": files["tca"], "ssl-cert": files["tcert"], "ssl-key": files["tkey"]}
    node.sst["ssl-client-cert"] = missing
    report = doctor()
    assert missing in report.of("SST donor certificate").text
    assert report.of(f"{EVERY_USE} joiner certificate").status == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask what another user may read")
def test_a_key_that_the_server_s_user_can_not_read_is_a_fault(node: Node, doctor: Doctor) -> None:
    row = doctor("--user", "nobody").of(f"{EVERY_USE} files")
    assert (row.status, "nobody can't read" in row.text) == ("fault", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_told_what_was_not_looked_at(node: Node, doctor: Doctor) -> None:
    node.server |= {"user": "root", "innodb-undo-directory": "undo", "pxc-encrypt-cluster-traffic": "ON"}
    doctor()
    for folder, mode in ((node.root, 0o755), (node.root / "tls", 0o700), (node.root / "data", 0o700)):
        folder.chmod(mode)
    output = as_nobody(node.root, ["doctor", "--defaults-file", str(node.option_file), "--json"])
    rows = [Row(**row) for row in json.loads(output)]
    assert "run this with sudo" in [row.advice for row in rows if row.check == "server's user"]
    hidden = [row for row in rows if "can't be looked at" in row.text]
    assert {row.status for row in hidden} == {"warning"}
    assert {row.check for row in hidden} == {"SST settings", "client, replication files"}


def as_nobody(place: Path, arguments: Sequence[str]) -> str:
    """What the program says to a user to whom only `place` is opened.

    A fork that becomes that user after the program ran once and everything is imported: it need not be able to run this
    Python.
    """
    closed = {parent: parent.stat().st_mode for parent in place.parents if not parent.stat().st_mode & 0o001}
    output = place / "output"
    for parent, mode in closed.items():
        parent.chmod(mode | 0o001)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with output.open("w") as sys.stdout:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                status = cli.run(arguments)
        finally:
            os._exit(status)
    os.waitpid(child, 0)
    for parent, mode in closed.items():
        parent.chmod(mode)
    return output.read_text()


def test_a_user_that_does_not_exist_is_refused(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.write()
    assert cli.run(["doctor", "--defaults-file", str(node.option_file), "--user", "no-such-user"]) == 2
    assert "no-such-user" in capsys.readouterr().err


def test_nothing_is_changed(node: Node, doctor: Doctor) -> None:
    node.write()
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in node.root.rglob("*")}
    doctor()
    assert {path for path in before if path != node.option_file} | {node.option_file} == set(node.root.rglob("*"))
    assert {path: stamp for path, stamp in before.items() if path != node.option_file} == {
        path: (path.lstat().st_mtime_ns, path.lstat().st_mode) for path in before if path != node.option_file
    }
