"""What a container asks for: process 1, any user, no writable disk, all from the environment, JSON logs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.certificates import self_signed
from lab.waiting import comes_true
from pytunnel.tls.settings import TlsSettings
from tests.support.credentials import settings_of
from tests.support.ends import NODE2, Ends
from tests.support.plain import dial, talk
from tests.support.programs import AS_ANYONE, can_be_anyone, needs
from tests.support.tunnels import LIMIT, Program, credentials, environment_of_programs, pytunnel, ran, started
from tests.support.web import ask

AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def children_of(process: int) -> list[int]:
    listings = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for listing in listings for child in listing.read_text().split()]


def can_be_process_1() -> bool:
    return shutil.which(AS_PROCESS_1[0]) is not None and ran([*AS_PROCESS_1, "true"]).returncode == 0


only_where_namespaces_can_be_made = pytest.mark.skipif(not can_be_process_1(), reason="needs root and unshare")


@contextmanager
def first_process(ends: Ends, *words: str) -> Iterator[tuple[Program, int]]:
    """A `pytunnel listen` that is process 1, and its number outside."""
    command = pytunnel("listen", *credentials(ends.node2), *words)
    with started([*AS_PROCESS_1, *command]) as program:
        program.wait_for("accepting TLS")
        (first,) = children_of(program.process.pid)
        yield program, first


# Process 1.


@only_where_namespaces_can_be_made
def test_process_1_takes_in_orphans(ends: Ends) -> None:
    orphaning = "sh -c '(sleep 0.1 <&- >&- &); exec cat'"
    with first_process(ends, "127.0.0.1:0", f"exec:{orphaning}") as (program, first):
        connecting = ends.connect(f"127.0.0.1:{program.port}")
        for _ in range(3):
            assert talk(connecting.port, b"x") == b"x"
        assert comes_true(lambda: len(children_of(first)) == 1, LIMIT)


@only_where_namespaces_can_be_made
def test_process_1_passes_sigterm_on_and_ends_well(ends: Ends) -> None:
    with first_process(ends, "127.0.0.1:0", "exec:cat") as (program, first):
        connecting = ends.connect(f"127.0.0.1:{program.port}")
        with dial(connecting.port) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            os.kill(first, signal.SIGTERM)
            program.wait_for("draining: open connections")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        assert program.wait() == 0


@only_where_namespaces_can_be_made
def test_process_1_passes_its_sockets_on(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        as_third = f"import os, sys; os.dup2({number}, 3); os.execvp(sys.argv[1], sys.argv[1:])"
        passed = [sys.executable, "-c", as_third, "env", "LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=tls"]
        words = pytunnel("listen", *credentials(ends.node2), "systemd:tls", "exec:cat")
        environment = environment_of_programs()
        process = subprocess.Popen(
            [*AS_PROCESS_1, *passed, *words], stderr=subprocess.PIPE, pass_fds=[number], env=environment
        )
        program = Program(process)
        program.follow()
        try:
            program.wait_for(f"accepting TLS at 127.0.0.1:{listener.getsockname()[1]}")
        finally:
            process.kill()
            program.wait()


@only_where_namespaces_can_be_made
def test_process_1_passes_sighup_on(ends: Ends) -> None:
    with first_process(ends, "127.0.0.1:0", "exec:cat") as (program, first):
        os.kill(first, signal.SIGHUP)
        program.wait_for("SIGHUP received: reading the certificates again")
        os.kill(first, signal.SIGINT)
        assert program.wait() == 0


@only_where_namespaces_can_be_made
def test_process_1_ends_as_its_program_does(ends: Ends) -> None:
    with first_process(ends, "127.0.0.1:0", "exec:cat") as (program, first):
        (child,) = children_of(first)
        os.kill(child, signal.SIGKILL)
        assert program.wait() == 128 + signal.SIGKILL
    words = pytunnel("listen", "--cert", "/nowhere.pem", "127.0.0.1:0", "exec:cat")
    assert ran([*AS_PROCESS_1, *words]).returncode == 2


@only_where_namespaces_can_be_made
def test_process_1_keeps_nothing_open_but_the_log(ends: Ends) -> None:
    """Otherwise a port would stay open when it is closed, and a pipe would not end."""
    with first_process(ends, "127.0.0.1:0", "exec:cat") as (_, first):
        assert [path.name for path in Path(f"/proc/{first}/fd").iterdir()] == ["2"]


# Any user, no writable disk, everything from the environment.


@pytest.fixture
def mounted() -> Iterator[TlsSettings]:
    """A folder that other users can read and not write, as a secret is mounted; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="pytunnel-test-") as name:
        folder = Path(name)
        own = self_signed(NODE2)
        settings = settings_of(folder / "tls", own, [own])
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield settings


def environment_of(mounted: TlsSettings) -> dict[str, str]:
    return {
        "PYTUNNEL_MODE": "listen",
        "PYTUNNEL_FROM": "127.0.0.1:0",
        "PYTUNNEL_TO": "127.0.0.1:9",
        "PYTUNNEL_CERT": str(mounted.certificate),
        "PYTUNNEL_CA": str(mounted.ca),
        "PYTUNNEL_STATUS": ":0",
        "PYTUNNEL_LOG_FORMAT": "json",
    }


@needs("setpriv", "prlimit")
@pytest.mark.skipif(not can_be_anyone(), reason="needs root, and a Python that other users may run")
def test_any_user_without_a_writable_disk_runs_it_from_the_environment(mounted: TlsSettings) -> None:
    """The user is in no list and has no home, there is no place for temporary files, and no file may have a byte."""
    environment = environment_of(mounted) | {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}
    with started(["prlimit", "--fsize=0", *AS_ANYONE, *pytunnel("run")], environment=environment) as program:
        port = program.status_port
        program.wait_for("accepting TLS")
        assert Path(f"/proc/{program.process.pid}").stat().st_uid == 54321
        assert [ask(port, path).status for path in ("/healthz", "/readyz", "/metrics", "/status")] == [200] * 4
        program.signal(signal.SIGTERM)
        assert program.wait() == 0


# The log for machines.


def events_of(lines: Sequence[str]) -> list[dict[str, object]]:
    """Each line as the JSON object that it has to be."""
    return [json.loads(line) for line in lines]


def test_every_line_of_a_run_is_an_event(ends: Ends) -> None:
    listening, connecting = ends.pair("127.0.0.1:9", "--log-format", "json", connect_options=("--log-format", "json"))
    with dial(connecting.place) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    for program in (listening, connecting):
        program.wait_for('"error"')
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
        assert all({"time", "level", "message"} <= event.keys() for event in events_of(program.lines))


def test_what_a_program_of_exec_says_is_an_event_too(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:sh -c 'echo from a program >&2; exec cat'", "--log-format", "json")
    assert talk(connecting.port, b"x") == b"x"
    listening.wait_for("a program says: ")
    listening.signal(signal.SIGTERM)
    assert listening.wait() == 0
    said = [event for event in events_of(listening.lines) if str(event["message"]).startswith("a program says")]
    assert [(event["level"], event["message"]) for event in said] == [("info", "a program says: from a program")]


def test_a_program_that_never_stops_talking_stops_nothing_else(ends: Ends) -> None:
    options = ("--log-format", "json", "--status", ":0")
    listening, connecting = ends.pair("exec:sh -c 'yes >&2'", *options)
    port = listening.status_port
    with dial(connecting.place):
        listening.wait_for("a program says: y")
        assert ask(port, "/healthz").status == 200
        for number in (signal.SIGTERM, signal.SIGTERM):
            listening.signal(number)
            listening.wait_for(f"{number.name} received")
        listening.wait()
    assert len([line for line in listening.lines if "a program says" in line]) <= 2 * 600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cert", "/nowhere.pem", ":0", ":9"], "the certificate file /nowhere.pem does not exist"),
        (["--config", "/nowhere.toml", ":0", ":9"], "/nowhere.toml can't be read"),
        (["--tls-min", "1.0", ":0", ":9"], "expected 1.2 or 1.3"),
        ([":0"], "the following arguments are required: TO"),
        (["--nonsense", ":0", ":9"], "unrecognized arguments"),
    ],
)
def test_a_bad_start_is_one_event(words: list[str], said: str) -> None:
    done = ran(pytunnel("listen", *words), environment={"PYTUNNEL_LOG_FORMAT": "json"})
    (event,) = events_of(done.stderr.splitlines())
    assert (event["level"], done.returncode) == ("error", 2)
    assert said in str(event["message"])


def test_a_file_may_say_what_form_the_log_has(ends: Ends, tmp_path: Path) -> None:
    file = tmp_path / "pytunnel.toml"
    file.write_text(f'cert = "{ends.node2.certificate}"\nca = "{ends.node2.ca}"\nlog-format = "json"\n')
    listening = ends.listen("127.0.0.1:9", "--config", str(file))
    listening.wait_for("accepting TLS")
    assert events_of(listening.lines)


def test_a_fault_of_our_own_is_one_event() -> None:
    """Whatever Python says of an error that nobody foresaw goes the same way."""
    lines = ("import pytunnel.cli.main", "from pytunnel.system import logs", "logs.set_up('json')")
    program = "\n".join((*lines, "raise RuntimeError('unforeseen\\nfault')"))
    done = ran([sys.executable, "-c", program])
    (event,) = events_of(done.stderr.splitlines())
    assert (event["level"], done.returncode) == ("critical", 1)
    assert "unforeseen\nfault" in str(event["message"])
