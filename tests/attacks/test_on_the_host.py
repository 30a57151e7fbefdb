"""What another user of the host can try against a transfer or a tunnel that runs: here it is the user nobody.

The directories are open to him, so that what stops him is what the program does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.ends import Ends
from tests.support.measuring import children
from tests.support.plain import echo, serving, talk
from tests.support.programs import needs
from tests.support.sst import LIMIT, PlayedServer, Run

NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
pytestmark = [as_root, needs("rsync", "my_print_defaults")]


@pytest.fixture(name="root")
def fixture_root() -> Iterator[Path]:
    """A directory that everybody can enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(name="pair")
def fixture_pair(root: Path) -> tuple[PlayedServer, PlayedServer]:
    """A donor with one table and a joiner, whose directories everybody can enter, and a tmpdir like /tmp."""
    identities = [self_signed("localhost"), self_signed("localhost")]
    servers = []
    for name, own in zip(("donor", "joiner"), identities, strict=True):
        server = PlayedServer(root / name).use(own, identities)
        for directory in (server.root, server.datadir):
            directory.chmod(0o755)
        server.tmpdir.chmod(0o1777)
        servers.append(server)
    donor, joiner = servers
    (donor.datadir / "shop").mkdir()
    (donor.datadir / "shop" / "t.ibd").write_text("rows")
    return donor, joiner


def by_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """What comes of a command that nobody runs."""
    return subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def is_denied(*command: str) -> bool:
    """Whether the system refuses it to nobody; another failure is no answer."""
    done = by_nobody(*command)
    assert done.returncode == 0 or "denied" in done.stderr or "not permitted" in done.stderr, done.stderr
    return done.returncode != 0


def tree_of(run: Run) -> list[int]:
    return [run.process.pid, *children(run.process.pid)]


def listening_ports(pids: list[int]) -> list[int]:
    """TCP ports at which these processes listen."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                match = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            except OSError:
                continue
            if match:
                inodes.add(match[1])
    ports = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.append(int(fields[1].rpartition(":")[2], 16))
    return ports


def midway(pair: tuple[PlayedServer, PlayedServer]) -> tuple[Run, Run, str]:
    """A transfer that waits for the donor's flush, and its secret."""
    donor, joiner = pair
    joining = joiner.start_joiner()
    ready = joining.ready()
    assert ready.secret is not None
    donating = donor.start_donor(ready)
    donating.expect("flush tables")
    return donating, joining, ready.secret.partition(":")[2]


def finish(pair: tuple[PlayedServer, PlayedServer], donating: Run, joining: Run) -> None:
    pair[0].flush()
    donating.expect("continue")
    assert (donating.end(), joining.end()) == (0, 0), donating.log + joining.log


def test_he_can_read_no_key_secret_state_or_configuration(pair: tuple[PlayedServer, PlayedServer]) -> None:
    donating, joining, _ = midway(pair)
    private = [path for server in pair for path in server.tmpdir.glob("pytunnel-*")]
    assert len(private) == 2
    files = [file for directory in private for file in directory.rglob("*") if file.is_file()]
    assert {"secrets", "rsyncd.conf"} <= {file.name for file in files}
    for file in (*files, *(server.root / "node.pem" for server in pair)):
        assert is_denied("cat", str(file)), file
        assert file.stat().st_mode & 0o077 == 0
    for directory in private:
        assert is_denied("ls", str(directory))
    finish(pair, donating, joining)


def test_he_can_look_into_no_process(pair: tuple[PlayedServer, PlayedServer]) -> None:
    donating, joining, password = midway(pair)
    for pid in (*tree_of(donating), *tree_of(joining)):
        for name in ("environ", "mem", "maps"):
            assert is_denied("cat", f"/proc/{pid}/{name}"), name
        assert is_denied("ls", f"/proc/{pid}/fd")
    shown = by_nobody("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null")
    assert "wsrep_sst_rsync_tunnel" in shown.stdout
    assert password not in shown.stdout
    finish(pair, donating, joining)


def test_he_finds_no_port_but_the_one_with_tls(pair: tuple[PlayedServer, PlayedServer]) -> None:
    donating, joining, _ = midway(pair)
    assert listening_ports(tree_of(donating)) == []
    (port,) = listening_ports(tree_of(joining))
    listing = by_nobody("rsync", f"rsync://127.0.0.1:{port}/", "--contimeout=5", "--timeout=5")
    assert listing.returncode != 0
    assert "rsync_tunnel_sst" not in listing.stdout
    finish(pair, donating, joining)


def test_he_can_connect_to_no_socket_of_a_transfer(pair: tuple[PlayedServer, PlayedServer]) -> None:
    donating, joining, _ = midway(pair)
    sockets = [path for server in pair for path in server.root.rglob("*") if path.is_socket()]
    for path in sockets:
        assert is_denied("perl", "-MSocket", "-e", CONNECT, str(path)), path
    finish(pair, donating, joining)


CONNECT = "socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, pack_sockaddr_un($ARGV[0])) or die qq($!\\n)"


@needs("perl")
def test_he_can_not_use_a_tunnel_s_unix_socket(root: Path) -> None:
    with ExitStack() as cleanup, serving(echo) as server:
        ends = Ends.make(root, cleanup)
        listening = ends.listen(f"127.0.0.1:{server}")
        path = root / "x.sock"
        ends.connect(f"127.0.0.1:{listening.port}", source=f"unix:{path}").wait_for("accepting plain")
        assert talk(str(path), b"we can") == b"we can"
        assert is_denied("perl", "-MSocket", "-e", CONNECT, str(path))


def test_what_he_puts_into_tmpdir_beforehand_is_neither_used_nor_followed_nor_removed(
    pair: tuple[PlayedServer, PlayedServer],
) -> None:
    donor, joiner = pair
    first = joiner.start_joiner()
    first.ready()
    (private,) = joiner.tmpdir.glob("pytunnel-*")
    first.process.terminate()
    first.end()
    stem = str(private)[: -len(private.name.rpartition("-")[2])]
    victim = joiner.root / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    by_nobody("mkdir", f"{stem}himself1").check_returncode()
    by_nobody("touch", f"{stem}himself1/secrets").check_returncode()
    by_nobody("ln", "-s", str(victim), f"{stem}himself2").check_returncode()
    donating, joining, password = midway(pair)
    assert Path(f"{stem}himself1/secrets").read_text() == ""
    assert not any(password in file.read_text() for file in Path(f"{stem}himself1").iterdir())
    finish(pair, donating, joining)
    assert sorted(path.name.rpartition("-")[2] for path in joiner.tmpdir.iterdir()) == ["himself1", "himself2"]
    assert (victim / "precious").exists()
    assert donor.remains() == []


@pytest.mark.parametrize("name", ["sst_in_progress", "rsync_tunnel_sst_complete", "wsrep_sst_binlog.tar"])
def test_a_link_of_his_in_an_open_datadir_is_not_followed(pair: tuple[PlayedServer, PlayedServer], name: str) -> None:
    victim = pair[1].root / "victim"
    victim.write_text("precious")
    for server in pair if name.endswith(".tar") else pair[1:]:
        server.datadir.chmod(0o777)
        by_nobody("ln", "-s", str(victim), str(server.datadir / name)).check_returncode()
    pair[0].server_options["log-bin"] = "mysql-bin"
    (pair[0].datadir / "mysql-bin.index").write_text("./mysql-bin.000001\n")
    (pair[0].datadir / "mysql-bin.000001").write_text("binlog")
    donating, joining, _ = midway(pair)
    finish(pair, donating, joining)
    assert victim.read_text() == "precious"
    assert [server.remains() for server in pair] == [[], []]


def test_a_process_whose_number_stands_in_a_pid_file_is_not_signalled(
    pair: tuple[PlayedServer, PlayedServer],
) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    with subprocess.Popen([sleep, "1000"]) as bystander:
        try:
            for server in pair:
                (server.datadir / "wsrep_sst.pid").write_text(f"{bystander.pid}\n")
            donating, joining, _ = midway(pair)
            finish(pair, donating, joining)
            assert bystander.poll() is None
        finally:
            bystander.kill()
