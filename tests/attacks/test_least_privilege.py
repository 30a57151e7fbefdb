"""What an attacker could still do who made a tunnel or an rsync of ours run code: nothing that it was not there for.

Each confinement is tried in a process of its own, because it is for good.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.ports import free_port
from pytunnel.confinement import landlock
from tests.support.ends import Ends
from tests.support.plain import digest_after_end, serving, talk
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, Program, credentials, environment_of_programs, pytunnel, started

with_landlock = pytest.mark.skipif(landlock.kernel_abi() < 1, reason="this kernel has no Landlock")
with_ports = pytest.mark.skipif(landlock.kernel_abi() < 4, reason="this kernel's Landlock knows no ports")
with_scopes = pytest.mark.skipif(landlock.kernel_abi() < 6, reason="this kernel's Landlock knows no signals")

# Confines itself as `pytunnel` would for this plan, or as a transfer would, and tries the things that follow.
TUNNEL = """
import os, socket, subprocess, sys, trio
from pathlib import Path
from pytunnel.service import running as service
from pytunnel.service.plan import plan_service
from pytunnel.sst.confinement import rules_for
from pytunnel.confinement.switch import Confine, confine

def tried(action):
    try:
        action()
    except OSError as error:
        return os.strerror(error.errno)
    return "done"
"""


def ran(*lines: str) -> list[str]:
    """What a process prints that does `lines` after the imports and `tried` of TUNNEL."""
    done = subprocess.run(
        [sys.executable, "-c", TUNNEL + "\n".join(lines)],
        env=environment_of_programs(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def confined_as(ends: Ends, mode: str, source: str, target: str) -> str:
    """The line that confines a process as the program would with this plan."""
    arguments = {
        "mode": mode,
        "from": source,
        "to": target,
        "cert": str(ends.node1.certificate),
        "ca": str(ends.node1.ca),
        "peer-name": "node2.my.cluster",
    }
    return f"service._confine(plan_service({arguments!r}, {{}}, None))"


def status_of(program: Program) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{program.process.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


# Core dumps and privileges, which every kernel can refuse.


@pytest.mark.parametrize("target", ["127.0.0.1:9", "exec:cat"])
def test_a_running_tunnel_writes_no_core_and_gets_no_privileges(ends: Ends, target: str) -> None:
    listening = ends.listen(target)
    listening.wait_for("confined: no core dumps, no new privileges")
    assert status_of(listening)["NoNewPrivs"] == "1"
    limits = Path(f"/proc/{listening.process.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]


def test_the_memory_of_a_tunnel_is_no_core_even_where_cores_go_to_a_program(ends: Ends) -> None:
    confine = confined_as(ends, "listen", "127.0.0.1:0", "127.0.0.1:9")
    assert ran(confine, "import ctypes", "print(ctypes.CDLL(None).prctl(3))") == ["0"]


def test_what_is_in_force_is_in_the_log(ends: Ends) -> None:
    found = ends.listen("127.0.0.1:9").wait_for(r"INFO confined: (.*)$")[1]
    abi = landlock.kernel_abi()
    assert found.endswith(f"(ABI {abi})") if abi else "no Landlock: this kernel has no Landlock" in found


def test_for_a_program_of_the_user_s_the_log_says_that_it_may_do_anything(ends: Ends) -> None:
    ends.listen("exec:cat").wait_for("no Landlock: programs of exec: may need anything that their user may do")


def test_confine_off_is_in_the_log_and_forbids_core_dumps_alone(ends: Ends) -> None:
    listening = ends.listen("exec:cat", "--confine", "off")
    listening.wait_for("confined: no core dumps; otherwise not confined")
    assert status_of(listening)["NoNewPrivs"] == "0"


def test_confine_require_refuses_to_start_where_landlock_can_not_be_in_force(ends: Ends) -> None:
    words = pytunnel("listen", *credentials(ends.node2), "--confine", "require", "127.0.0.1:0", "exec:cat")
    with started(words) as failing:
        assert failing.wait() == 1
    (line,) = failing.lines
    assert line.startswith("pytunnel: confine=require can't be met: programs of exec:")


def test_without_landlock_the_rest_is_in_force_and_require_is_refused() -> None:
    said = ran(
        "from pytunnel.confinement import landlock",
        "landlock.kernel_abi = lambda: 0",
        "rules = landlock.Rules(landlock.WRITE)",
        "print(confine(Confine.AUTO, rules))",
        "try: confine(Confine.REQUIRE, rules)",
        "except Exception as error: print(error)",
    )
    assert said == [
        "no core dumps, no new privileges; no Landlock: this kernel has no Landlock, or a container hides it",
        "confine=require can't be met: this kernel has no Landlock, or a container hides it; use confine=auto",
    ]


# Files.


@with_landlock
def test_a_tunnel_can_not_write_any_file(ends: Ends, tmp_path: Path) -> None:
    victim = tmp_path / "node1" / "victim"
    victim.write_text("precious")
    said = ran(
        confined_as(ends, "connect", "127.0.0.1:0", "127.0.0.1:9"),
        f"victim = Path({str(victim)!r})",
        "print(tried(lambda: victim.write_text('changed')))",
        "print(tried(lambda: victim.with_name('new').touch()))",
        "print(tried(victim.unlink))",
        "print(tried(lambda: victim.rename(victim.with_name('other'))))",
    )
    assert said == ["Permission denied"] * 4
    assert victim.read_text() == "precious"


@with_landlock
def test_a_tunnel_can_not_read_what_it_does_not_need(ends: Ends, tmp_path: Path) -> None:
    (tmp_path / "shop.ibd").write_text("rows")  # beside the certificates' directory, as where that is in the datadir
    said = ran(
        confined_as(ends, "connect", "127.0.0.1:0", "127.0.0.1:9"),
        f"print(tried(Path({str(tmp_path / 'shop.ibd')!r}).read_bytes))",
        f"print(tried(lambda: list(Path({str(tmp_path)!r}).iterdir())))",
        "print(tried(Path('/dev/shm').iterdir().__next__))",
    )
    assert said == ["Permission denied"] * 3


@with_landlock
def test_the_directory_that_it_is_started_in_is_none_that_it_needs(
    ends: Ends, tmp_path_factory: pytest.TempPathFactory
) -> None:
    datadir = tmp_path_factory.mktemp("datadir")
    (datadir / "shop.ibd").write_text("rows")
    said = ran(
        f"os.chdir({str(datadir)!r})",
        "sys.path.insert(0, os.getcwd())  # as `python -m` does",
        confined_as(ends, "connect", "127.0.0.1:0", "127.0.0.1:9"),
        "print(tried(Path('shop.ibd').read_bytes))",
    )
    assert said == ["Permission denied"]


@with_landlock
def test_files_beside_the_root_do_not_open_all_of_it(ends: Ends) -> None:
    arguments = {"mode": "listen", "from": ":0", "to": ":9", "cert": "/node.pem", "ca": "/tls/bundle.crt"}
    said = ran(
        "sys.path.append('/')",
        f"service._confine(plan_service({arguments!r}, {{}}, None))",
        "print(tried(lambda: list(Path('/').iterdir())))",
    )
    assert said == ["Permission denied"]


@with_landlock
def test_a_tunnel_can_start_no_program(ends: Ends) -> None:
    confine = confined_as(ends, "listen", "127.0.0.1:0", "127.0.0.1:9")
    assert ran(confine, "print(tried(lambda: subprocess.run(['/bin/sh', '-c', 'id'])))") == ["Permission denied"]


@with_landlock
def test_a_tunnel_still_reads_what_it_needs_later(ends: Ends, tmp_path: Path) -> None:
    """Renewed certificates, wherever links lead; modules that are loaded late; what the resolver asks."""
    real = tmp_path / "archive"
    real.mkdir()
    link = tmp_path / "live" / "node.pem"
    link.parent.mkdir()
    link.symlink_to(real / "node1.pem")
    (real / "node1.pem").write_text("of today")
    arguments = {"mode": "listen", "from": ":0", "to": ":9", "cert": str(link), "ca": str(ends.node1.ca)}
    said = ran(
        f"service._confine(plan_service({arguments!r}, {{}}, None))",
        f"real, link = Path({str(real)!r}), Path({str(link)!r})",
        "print(tried((real / 'node1.pem').read_bytes), tried(link.read_bytes))",
        "import decimal, sqlite3, cryptography.x509.ocsp, encodings.idna",
        "print(socket.gethostbyname('localhost'), tried(lambda: open('/dev/null', 'w').close()))",
    )
    assert said == ["done done", "127.0.0.1 done"]


@with_landlock
def test_a_confined_tunnel_makes_its_socket_and_takes_it_away(ends: Ends, tmp_path: Path) -> None:
    path = tmp_path / "s" / "x.sock"
    path.parent.mkdir()
    with serving(digest_after_end) as port:
        listening = ends.listen(f"127.0.0.1:{port}", "--confine", "require")
        connecting = ends.connect(f"127.0.0.1:{listening.port}", "--confine", "require", source=f"unix:{path}")
        connecting.wait_for("accepting plain")
        assert len(talk(str(path), b"data")) == 64
        connecting.process.terminate()
        assert connecting.wait() == 0
    assert not path.exists()


@with_landlock
def test_what_lies_beside_its_socket_is_not_for_it_to_read(ends: Ends, tmp_path: Path) -> None:
    datadir = tmp_path / "datadir"
    datadir.mkdir()
    (datadir / "shop.ibd").write_text("rows")
    said = ran(
        confined_as(ends, "connect", f"unix:{datadir}/s.sock", "127.0.0.1:9"),
        f"print(tried(Path({str(datadir / 'shop.ibd')!r}).read_bytes))",
    )
    assert said == ["Permission denied"]


# Ports, signals.


@with_ports
def test_a_tunnel_can_dial_its_target_s_port_and_dns_alone(ends: Ends) -> None:
    with serving(digest_after_end) as own, serving(digest_after_end) as other:
        said = ran(
            confined_as(ends, "connect", "127.0.0.1:0", f"127.0.0.1:{own}"),
            f"for port in ({own}, {other}, 53):",
            "    print(tried(lambda: socket.create_connection(('127.0.0.1', port)).close()))",
        )
    assert said[:2] == ["done", "Permission denied"]
    assert said[2] in ("done", "Connection refused")


@with_ports
def test_a_tunnel_can_listen_at_its_own_port_alone(ends: Ends) -> None:
    port = free_port("127.0.0.1")
    said = ran(
        confined_as(ends, "listen", f"127.0.0.1:{port}", "127.0.0.1:9"),
        f"for port in ({port}, {port + 1}, 0):",
        "    print(tried(lambda: socket.create_server(('127.0.0.1', port)).close()))",
    )
    assert said == ["done", "Permission denied", "Permission denied"]


@with_scopes
def test_a_tunnel_can_signal_no_other_process(ends: Ends) -> None:
    with subprocess.Popen(["sleep", "100"]) as other:
        try:
            confine = confined_as(ends, "listen", "127.0.0.1:0", "127.0.0.1:9")
            said = ran(confine, f"for pid in ({other.pid}, os.getpid()):", "    print(tried(lambda: os.kill(pid, 0)))")
            assert other.poll() is None
        finally:
            other.kill()
    assert said == ["Operation not permitted", "done"]


# A state transfer.


@with_landlock
@needs("rsync")
def test_an_rsync_that_is_deceived_still_can_not_write_outside_the_server_s_directories(tmp_path: Path) -> None:
    for name in ("data", "private", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "source").write_text("from the donor")
    said = ran(
        "from pytunnel.sst.directories import Layout",
        "from pytunnel.sst.request import parse_request",
        f"root = Path({str(tmp_path)!r})",
        "request = parse_request(['--role', 'joiner', '--address', 'a', '--datadir', str(root / 'data')], {})",
        "layout = Layout(*[root / 'data'] * 5)",
        "confine(Confine.AUTO, rules_for(request, layout, root / 'private'))",
        "for name in ('data', 'private', 'elsewhere', ''):",
        "    command = ['rsync', '--inplace', str(root / 'source'), str(root / name / 'copy')]",
        "    print(subprocess.run(command, stderr=subprocess.DEVNULL).returncode)",
    )
    assert [code == "0" for code in said] == [True, True, False, False]
    assert [path.name for path in tmp_path.rglob("copy")] == ["copy", "copy"]
