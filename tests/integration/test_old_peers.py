"""A rolling upgrade: nodes with the socat script are played by plain rsync and socat, as they work."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab.certificates import self_signed
from lab.ports import free_port
from tests.support.programs import needs
from tests.support.sst import GTID, LIMIT, POSITION, PlayedServer, Ready

pytestmark = needs("rsync", "my_print_defaults", "socat")

SECRETLESS = "rsync_tunnel_sst"


@pytest.fixture(name="ours")
def fixture_ours(tmp_path: Path) -> PlayedServer:
    """Our node; the old one's certificate lies beside it as old.pem."""
    identities = [self_signed("localhost"), self_signed("localhost")]
    old = tmp_path / "old.pem"
    old.touch(mode=0o600)
    old.write_bytes(identities[1].combined_pem())
    return PlayedServer(tmp_path / "ours").use(identities[0], identities)


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """A program that listens on a port of this host."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            yield
        finally:
            process.terminate()


def wait_for_port(port: int) -> None:
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nobody listens on port {port}")


@contextmanager
def old_joiner(root: Path, bundle: str) -> Iterator[int]:
    """An rsync daemon with the old script's two modules, behind socat; gives the TLS port."""
    data = root / "old data"
    data.mkdir(exist_ok=True)
    plain, secured = free_port("127.0.0.1"), free_port("127.0.0.1")
    config = root / "rsyncd.conf"
    modules = "".join(f"[{name}]\npath = {data}\n" for name in (SECRETLESS, f"{SECRETLESS}-log_dir"))
    config.write_text(f"uid = 0\ngid = 0\nuse chroot = no\nread only = no\ntimeout = 300\n{modules}")
    daemon = ["rsync", "--daemon", "--no-detach", f"--port={plain}", "--address=127.0.0.1", f"--config={config}"]
    listen = f"openssl-listen:{secured},bind=127.0.0.1,reuseaddr,fork,cert={root}/old.pem,cafile={bundle},verify=1"
    with ExitStack() as both:
        both.enter_context(running(daemon, plain))
        both.enter_context(running(["socat", listen, f"TCP:127.0.0.1:{plain}"], secured))
        yield secured


@contextmanager
def old_donor(root: Path, bundle: str, port: int) -> Iterator[str]:
    """socat towards our joiner, as an old donor runs it; gives the URL of its local end for rsync."""
    plain = free_port("127.0.0.1")
    connect = f"openssl-connect:localhost:{port},cert={root}/old.pem,cafile={bundle},verify=1,pf=ip4"
    listen = f"TCP-LISTEN:{plain},bind=127.0.0.1,reuseaddr,fork"
    process = subprocess.Popen(["socat", listen, connect], stdin=subprocess.DEVNULL)
    try:
        time.sleep(0.5)  # connecting to see whether it listens would make a connection to the joiner
        yield f"rsync://127.0.0.1:{plain}"
    finally:
        process.terminate()
        process.wait(LIMIT)


def rsync(*arguments: str) -> None:
    subprocess.run(["rsync", *arguments], check=True, timeout=LIMIT)


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_our_donor_serves_an_old_joiner(ours: PlayedServer, tmp_path: Path) -> None:
    for name in ("shop/t.ibd", "ibdata1", "ib_logfile0", "undo001", "aria_log_control"):
        write(ours.datadir / name, f"new {name}")
    write(tmp_path / "old data" / "dropped" / "t.ibd", "old")
    with old_joiner(tmp_path, ours.options["tca"]) as port:
        run = ours.start_donor(Ready(f"localhost:{port}/{SECRETLESS}", None))
        run.expect("flush tables")
        ours.flush()
        run.expect("continue")
        run.expect(f"done {POSITION}")
        assert run.end() == 0, run.log
    arrived = tmp_path / "old data"
    for name in ("shop/t.ibd", "ibdata1", "ib_logfile0", "undo001", "aria_log_control"):
        assert (arrived / name).read_text() == f"new {name}"
    assert (arrived / "rsync_tunnel_sst_complete").read_text() == f"{POSITION}\n"
    assert not (arrived / "dropped").exists()
    assert ours.remains() == []


def test_our_joiner_takes_an_old_donor_where_that_is_allowed(ours: PlayedServer, tmp_path: Path) -> None:
    ours.options["legacy-donor"] = "1"
    source = tmp_path / "source"
    write(source / "shop" / "t.ibd", "new")
    write(source / "ib_logfile0", "new")
    state = tmp_path / "rsync_tunnel_sst_complete"
    state.write_text(f"{GTID} 0\n")
    run = ours.start_joiner()
    ready = run.ready()
    assert ready.secret is None
    with old_donor(tmp_path, ours.options["tca"], ready.port) as url:
        common = ("--links", "--perms", "--ignore-times", "--inplace", "--delete")
        rsync("--dirs", *common, "--include=ibdata*", "--exclude=*", f"{source}/", f"{url}/{SECRETLESS}")
        rsync("--dirs", *common, "--include=ib_logfile*", "--exclude=*", f"{source}/", f"{url}/{SECRETLESS}-log_dir")
        rsync("--recursive", *common, f"{source}/shop/", f"{url}/{SECRETLESS}/shop")
        rsync(str(state), f"{url}/{SECRETLESS}")
        run.expect(POSITION)
        assert run.end() == 0, run.log
    assert (ours.datadir / "shop" / "t.ibd").read_text() == "new"
    assert (ours.datadir / "ib_logfile0").read_text() == "new"
    assert ours.remains() == []
    assert "[WARNING] an old donor sent no Aria logs" in run.log
    assert "mariadb-check" in run.log


def test_our_joiner_refuses_an_old_donor_otherwise(ours: PlayedServer, tmp_path: Path) -> None:
    write(ours.datadir / "shop" / "t.ibd", "old")
    write(tmp_path / "source" / "t.ibd", "new")
    run = ours.start_joiner()
    with old_donor(tmp_path, ours.options["tca"], run.ready().port) as url:
        refused = subprocess.run(
            ["rsync", "--recursive", f"{tmp_path}/source/", f"{url}/{SECRETLESS}/shop"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
    assert refused.returncode == 5, refused.stderr
    assert (ours.datadir / "shop" / "t.ibd").read_text() == "old"
    run.process.terminate()
    assert run.end() != 0
