"""`pytunnel doctor` on real option files, certificates and peers: a healthy node, and each classic failure."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.certificates import Identity, authority, bundle_pem, expired, issued, self_signed, write_secret
from lab.optionfile import option_file
from lab.ports import free_port
from pytunnel.certs.access import ourselves
from pytunnel.cli import main as cli
from pytunnel.tls.settings import TlsSettings
from tests.support.credentials import OURSELVES
from tests.support.programs import needs
from tests.support.sst import POSITION, PlayedServer
from tests.support.tunnels import LIMIT, pytunnel, started, tunnel

pytestmark = needs("my_print_defaults", "rsync", "openssl")

CHECKOUT = Path(__file__).parents[2]
HOST = "127.0.0.1"
NOBODY = 65534
CA = authority("Test Authority")
SECRET = "S3cret-Of-Nobody"  # noqa: S105 - looked for in the output

Groups = dict[str, dict[str, str | None]]


@dataclass(slots=True)
class Node:
    """One node's files: a healthy one, until a test changes `server` or `sst` or a file."""

    root: Path
    server: dict[str, str | None] = field(default_factory=dict)
    sst: dict[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("data", "bin", "tls"):
            (self.root / name).mkdir(mode=0o755)
        self.provider.touch()
        self.use(issued(CA, "node1.my.cluster", addresses=[HOST]))
        tls = {name: str(self.root / "tls" / name) for name in ("ca.crt", "node.crt", "node.key")}
        self.sst |= {"tca": tls["ca.crt"], "tcert": tls["node.crt"], "tkey": tls["node.key"]}
        self.server |= {
            "user": ourselves().name,
            "datadir": str(self.root / "data"),
            "pid-file": str(self.root / "pid"),
            "bind-address": HOST,
            "wsrep-on": "ON",
            "wsrep-provider": str(self.provider),
            "wsrep-cluster-address": f"gcomm://{HOST},127.0.0.2",
            "wsrep-sst-method": "rsync_tunnel",
            "wsrep-sst-auth": f"sst:{SECRET}",
            "wsrep-sst-receive-address": f"{HOST}:{free_port(HOST)}",
            "ssl-ca": tls["ca.crt"],
            "ssl-cert": tls["node.crt"],
            "ssl-key": tls["node.key"],
            "require-secure-transport": "ON",
            "wsrep-provider-options": f"socket.ssl_ca={tls['ca.crt']};socket.ssl_cert={tls['node.crt']};"
            f"socket.ssl_key={tls['node.key']}",
        }

    @property
    def provider(self) -> Path:
        return self.root / "libgalera_smm.so"

    @property
    def option_file(self) -> Path:
        return self.root / "my.cnf"

    @property
    def path(self) -> str:
        """A server's PATH that leads to this checkout's method and to the Python of these tests."""
        return f"{self.root / 'bin'}:{CHECKOUT}:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"

    def use(self, own: Identity, trusted: Sequence[Identity] = (CA,), key: Identity | None = None) -> None:
        """Write the certificate files anew."""
        write_secret(self.root / "tls" / "node.crt", own.certificate_pem(), OURSELVES)
        write_secret(self.root / "tls" / "node.key", (key or own).key_pem(), OURSELVES)
        write_secret(self.root / "tls" / "ca.crt", bundle_pem(trusted), OURSELVES)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Play this node's server: a process of the server's name, PATH and pid file."""
        server = self.root / "bin" / "mariadbd"
        server.symlink_to(shutil.which("sleep") or "/bin/sleep")
        with subprocess.Popen([str(server), "300"], env={"PATH": self.path}) as process:
            (self.root / "pid").write_text(f"{process.pid}\n")
            try:
                yield
            finally:
                process.kill()

    def write(self) -> None:
        """Write the option file as it is now."""
        self.option_file.write_text(option_file({"mysqld": self.server, "sst": self.sst}))
        self.option_file.chmod(0o644)


@dataclass(frozen=True, slots=True)
class Row:
    """One object of the JSON report."""

    check: str
    status: str
    text: str
    advice: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the program said."""

    code: int
    rows: tuple[Row, ...]

    def bad(self) -> list[tuple[str, str]]:
        """Check and status of all rows that are not ok."""
        return [(row.check, row.status) for row in self.rows if row.status != "ok"]

    def of(self, check: str) -> Row:
        """The worst row of a check."""
        found = [row for row in self.rows if row.check == check]
        assert found, f"no row {check!r} among {sorted({row.check for row in self.rows})}"
        return max(found, key=lambda row: ["ok", "warning", "fault"].index(row.status))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def doctor(node: Node, capsys: pytest.CaptureFixture[str]) -> Callable[..., Report]:
    """Run the program's face on the node's option file; the secret must never come out."""

    def run(*arguments: str) -> Report:
        node.write()
        code = cli.run(["doctor", "--defaults-file", str(node.option_file), "--json", *arguments])
        output = capsys.readouterr().out
        assert SECRET not in output
        assert "PRIVATE KEY" not in output
        return Report(code, tuple(Row(**row) for row in json.loads(output)))

    return run


Doctor = Callable[..., Report]


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


def listener(node: Node, own: Identity, trusted: Identity) -> TlsSettings:
    """The files of another node."""
    folder = node.root / "peer"
    folder.mkdir()
    certificate = write_secret(folder / "node.pem", own.combined_pem(), OURSELVES)
    return TlsSettings(certificate=certificate, ca=write_secret(folder / "ca.crt", bundle_pem([trusted]), OURSELVES))


def test_a_peer_that_listens_is_described_and_trusted_and_nothing_is_sent(node: Node, doctor: Doctor) -> None:
    settings = listener(node, issued(CA, "node2.my.cluster", addresses=[HOST]), CA)
    with socket.create_server((HOST, 0)) as target:
        target.settimeout(LIMIT)
        with tunnel("listen", settings, f"{HOST}:0", f"{HOST}:{target.getsockname()[1]}") as listening:
            report = doctor("--peer", f"{HOST}:{listening.port}")
            carried, _ = target.accept()
            with carried:
                carried.settimeout(LIMIT)
                assert received(carried) == b""
    assert report.of("peer: trust").status == "ok"
    assert "TLSv1.3" in report.of("peer: TLS").text
    shown = report.of("peer: certificate").text
    assert all(word in shown for word in ("CN=node2.my.cluster", "Test Authority", "364 days"))
    assert report.of("peer: its answer").status == "ok"


def received(stream: socket.socket) -> bytes:
    """All that comes until the other end closes or breaks off."""
    data = b""
    try:
        while piece := stream.recv(4096):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_a_peer_of_another_name_is_described_although_it_is_not_trusted(node: Node, doctor: Doctor) -> None:
    settings = listener(node, issued(CA, "evil.my.cluster"), CA)
    with tunnel("listen", settings, f"{HOST}:0", "exec:cat") as listening:
        report = doctor("--peer", f"{HOST}:{listening.port}")
    trust = report.of("peer: trust")
    assert (trust.status, "presented CN=evil.my.cluster" in trust.text) == ("fault", True)
    assert "Test Authority" in report.of("peer: certificate").text


def test_a_peer_that_does_not_trust_this_node_is_told(node: Node, doctor: Doctor) -> None:
    settings = listener(node, issued(CA, "node2", addresses=[HOST]), authority("Other"))
    with tunnel("listen", settings, f"{HOST}:0", "exec:cat") as listening:
        report = doctor("--peer", f"{HOST}:{listening.port}")
    assert report.of("peer: trust").status == "ok"
    answer = report.of("peer: its answer")
    assert (answer.status, "did not accept our certificate" in answer.text) == ("fault", True)


@pytest.mark.parametrize(("version", "shown"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_openssl_s_server_is_a_peer_like_any_other(node: Node, doctor: Doctor, version: str, shown: str) -> None:
    settings = listener(node, issued(CA, "node2", addresses=[HOST]), CA)
    command = ["openssl", "s_server", "-accept", f"{HOST}:0", "-cert", str(settings.certificate), version]
    command += ["-CAfile", str(settings.ca), "-Verify", "1", "-verify_return_error"]
    with started(["sh", "-c", 'exec "$@" >&2', "sh", *command], stdin=subprocess.PIPE) as peer:
        port = peer.wait_for(rf"ACCEPT {HOST}:(\d+)")[1]
        report = doctor("--peer", f"{HOST}:{port}")
    assert (report.of("peer: trust").status, shown in report.of("peer: TLS").text) == ("ok", True)
    assert report.of("peer: its answer").status == "ok"


def test_a_joiner_that_waits_for_its_donor_goes_on_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor, joiner = (
        PlayedServer(tmp_path / name).use(own, identities)
        for name, own in zip(("donor", "joiner"), identities, strict=True)
    )
    (tmp_path / "my.cnf").write_text(
        option_file({"mysqld": {"wsrep-sst-method": "rsync_tunnel"}, "sst": donor.options})
    )
    joining = joiner.start_joiner()
    ready = joining.ready()
    cli.run(["doctor", "--defaults-file", str(tmp_path / "my.cnf"), "--peer", f"{HOST}:{ready.port}", "--json"])
    rows = {row["check"]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert (rows["peer: trust"], rows["peer: its answer"]) == ("ok", "ok")
    donating = donor.start_donor(ready)
    donating.expect("flush tables")
    donor.flush()
    donating.expect("continue")
    donating.expect(f"done {POSITION}")
    joining.expect(POSITION)
    assert (donating.end(), joining.end()) == (0, 0)


def test_a_peer_that_is_not_there_is_a_fault(node: Node, doctor: Doctor) -> None:
    row = doctor("--peer", f"{HOST}:{free_port(HOST)}").of("peer: TLS")
    assert (row.status, "can't be reached" in row.text) == ("fault", True)


def test_a_peer_that_can_not_be_a_place_is_refused(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--peer", "node2:port"]) == 2
    assert "expected HOST, HOST:PORT" in capsys.readouterr().err


def test_without_a_certificate_of_its_own_this_node_dials_nobody(node: Node, doctor: Doctor) -> None:
    lose_key(node)
    assert doctor("--peer", HOST).of("peer").status == "fault"
