"""What the server's user can try against root, who runs `pytunnel doctor`: here the server's user is nobody.

The datadir, what is in it, the server's process and its PATH are his.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.certificates import authority, bundle_pem, issued
from lab.optionfile import option_file
from pytunnel.certs.access import find_reader, ourselves
from pytunnel.doctor.server import find_running
from tests.support.options import options
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, pytunnel

NOBODY = 65534
CHECKOUT = Path(__file__).parents[2]
PROGRAMS = ("rsync", "mariadbd", "wsrep_sst_rsync_tunnel")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be attacked by somebody else")
pytestmark = [as_root, needs("my_print_defaults")]


class Node:
    """A node whose server's user is an attacker: `server` is its group of the option file, `evil` his PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.datadir, self.evil, self.ran = root / "data", root / "evil", root / "ran"
        for folder in (self.datadir, self.evil, self.ran):
            folder.mkdir()
            os.chown(folder, NOBODY, NOBODY)
        self.server: dict[str, str | None] = {"user": "nobody", "datadir": str(self.datadir), "pid-file": "s.pid"}
        self.server |= {"wsrep-sst-method": "rsync_tunnel", "wsrep-cluster-address": "gcomm://127.0.0.2"}
        self.sst: dict[str, str | None] = {}
        for name in PROGRAMS:
            text = f'#!/bin/sh\n# pytunnel\n/usr/bin/id -u > "{self.ran}/{name}"\n'
            self.put(self.evil / name, text, 0o755)

    def put(self, path: Path, text: str, mode: int) -> None:
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, NOBODY, NOBODY)

    @contextmanager
    def running(self) -> Iterator[None]:
        """His process of the server's name, with his PATH, and the pid file that names it."""
        program = self.datadir / "mariadbd"
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        with subprocess.Popen([program, "300"], env={"PATH": str(self.evil)}, user=NOBODY, group=NOBODY) as process:
            self.put(self.datadir / "s.pid", f"{process.pid}\n", 0o644)
            try:
                yield
            finally:
                process.kill()

    def examined(self, *arguments: str) -> str:
        """What the doctor says to root; it must come to an end."""
        file = self.root / "my.cnf"
        file.write_text(option_file({"mysqld": self.server, "sst": self.sst}))
        file.chmod(0o644)
        command = pytunnel("doctor", "--defaults-file", str(file), "--json", *arguments)
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT / "src")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def runners(self) -> dict[str, int]:
        """Which of his programs were run, and as whom."""
        return {file.name: int(file.read_text()) for file in self.ran.iterdir()}


@pytest.fixture
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Node(Path(name))


def test_programs_on_the_server_s_path_are_run_as_its_user(node: Node) -> None:
    with node.running():
        node.examined()
    assert node.runners() == dict.fromkeys(PROGRAMS, NOBODY)


def test_no_program_is_run_where_the_server_s_user_is_not_known(node: Node) -> None:
    node.server["user"] = "no-such-user"
    with node.running():
        assert "was not run" in node.examined()
    assert node.runners() == {}


def test_a_path_of_another_user_s_process_is_not_believed(node: Node) -> None:
    with node.running():
        assert str(node.evil) not in node.examined("--user", "root")
    assert node.runners() == {}


def test_a_setuid_program_of_the_server_s_name_is_no_server(node: Node) -> None:
    program = node.root / "mariadbd"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    program.chmod(0o4755)
    os.chown(node.datadir, 0, 0)
    with subprocess.Popen([program, "300"], user=NOBODY, group=NOBODY) as process:
        try:
            if Path(f"/proc/{process.pid}").stat().st_uid != 0:
                pytest.skip("setuid programs have no effect on this file system")
            node.put(node.datadir / "s.pid", f"{process.pid}\n", 0o644)
            assert find_running(options("pid-file=s.pid"), node.datadir, ourselves()) is None
        finally:
            process.kill()


def test_the_server_of_the_datadir_s_owner_is_found(node: Node) -> None:
    with node.running():
        found = find_running(options("pid-file=s.pid"), node.datadir, find_reader("nobody"))
    assert found is not None
    assert found.path == str(node.evil)


@pytest.mark.parametrize("kind", ["pipe", "link", "huge"])
def test_a_pid_file_that_is_none_means_no_server(node: Node, kind: str) -> None:
    pid = node.datadir / "s.pid"
    with node.running():
        pid.rename(node.datadir / "good.pid")
        if kind == "pipe":
            os.mkfifo(pid)
        elif kind == "link":
            pid.symlink_to(node.datadir / "good.pid")
        else:
            pid.write_text(1_000_000 * "0" + (node.datadir / "good.pid").read_text())
        assert str(node.evil) not in node.examined()


@pytest.mark.parametrize("key", ["tcert", "tca", "dh"])
def test_a_pipe_in_the_place_of_a_file_is_not_opened(node: Node, key: str) -> None:
    ca = authority("CA")
    own = issued(ca, "node1")
    for name, text in (("tcert", own.combined_pem()), ("tca", bundle_pem([ca]))):
        node.put(node.datadir / name, text.decode(), 0o600)
    node.sst |= {"tcert": "tcert", "tca": "tca"}
    if key == "dh":
        node.sst["sockopt"] = "dhparams=dh"
    (node.datadir / key).unlink(missing_ok=True)
    os.mkfifo(node.datadir / key)
    assert f"{node.datadir / key} is neither a file nor a directory" in node.examined()


def test_a_pipe_in_the_place_of_the_method_is_not_waited_for(node: Node) -> None:
    method = node.evil / "wsrep_sst_rsync_tunnel"
    method.unlink()
    os.mkfifo(method, 0o755)
    with node.running():
        assert "is no regular file" in node.examined()


@pytest.mark.parametrize("key", ["tcert", "innodb-undo-directory"])
def test_no_advice_gives_him_what_he_made_a_link_to(node: Node, key: str) -> None:
    secret = node.root / "secret"
    secret.mkdir(mode=0o700) if key != "tcert" else secret.touch(mode=0o600)
    (node.datadir / "x").symlink_to(secret)
    (node.sst if key == "tcert" else node.server)[key] = "x"
    said = node.examined()
    assert f"it is a link to {secret}" in said
    assert "chown nobody" not in said
