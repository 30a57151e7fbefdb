"""`pytunnel status`: what people and their programs see of another pytunnel."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
from pathlib import Path

import pytest

from tests.support.ends import NODE1, Ends
from tests.support.plain import dial, echo, serving
from tests.support.tunnels import LIMIT, pytunnel, ran, started

HERE = ("--status", ":0")


def test_people_read_it_as_text_where_there_is_no_terminal(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat", *HERE)
    with dial(connecting.port) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        done = ran(pytunnel("status", f":{listening.status_port}"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert re.search(r"^pytunnel \S+, running for .*: ready *$", done.stdout, re.MULTILINE)
    assert re.search(rf"^listen +CN={NODE1} +127\.0\.0\.1:\d+ +exec:cat +TLSv1\.3 TLS_", done.stdout, re.MULTILINE)


def test_machines_read_it_as_json(ends: Ends, tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    ends.listen("exec:cat", "--status", f"unix:{path}").wait_for("accepting TLS")
    done = ran(pytunnel("status", "--json", f"unix:{path}"))
    assert json.loads(done.stdout)["tunnels"][0]["state"] == "listening"


def test_the_address_comes_from_the_environment_of_the_container_too(ends: Ends) -> None:
    port = ends.listen("exec:cat", "--status", "0.0.0.0:0").status_port
    done = ran(pytunnel("status"), environment={"PYTUNNEL_STATUS": f"0.0.0.0:{port}"})
    assert "ready" in done.stdout


def test_a_terminal_shows_it_live_until_the_program_ends(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat", *HERE)
    ours, theirs = os.openpty()
    environment = {"TERM": "xterm", "COLUMNS": "200"}
    with started(pytunnel("status", f":{listening.status_port}"), stdout=theirs, environment=environment) as watching:
        os.close(theirs)
        read_until(ours, b"ready")
        with dial(connecting.port) as client:
            read_until(ours, NODE1.encode())
            client.shutdown(socket.SHUT_WR)
        listening.signal(signal.SIGTERM)
        read_until(ours, b"ended")
        assert watching.wait() == 0
    os.close(ours)


def test_a_terminal_says_so_of_a_program_that_is_there_and_does_not_answer(ends: Ends) -> None:
    listening = ends.listen("exec:cat", *HERE)
    port = listening.status_port
    ours, theirs = os.openpty()
    with started(pytunnel("status", f":{port}"), stdout=theirs, environment={"TERM": "xterm"}) as watching:
        os.close(theirs)
        read_until(ours, b"ready")
        listening.signal(signal.SIGSTOP)
        try:
            assert watching.wait() == 1
        finally:
            listening.signal(signal.SIGCONT)
        assert "timed out" in watching.lines[-1]
    os.close(ours)


def read_until(terminal: int, expected: bytes) -> None:
    """Read what a program shows until `expected` is among it."""
    shown = b""
    while expected not in shown:
        assert select.select([terminal], [], [], LIMIT)[0], shown
        shown += os.read(terminal, 65536)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "where to ask is not known: give ADDRESS, --datadir DIR, or PYTUNNEL_STATUS"),
        (["127.0.0.1:1"], "no status at 127.0.0.1:1: Connection refused; is pytunnel running with --status?"),
        (["unix:/nowhere"], "no status at unix:/nowhere: No such file or directory; is pytunnel running"),
        (["exec:cat"], "'exec:cat' is no address for status"),
        (["--datadir", "/nowhere"], "the datadir /nowhere can't be opened: No such file or directory"),
        (["--datadir", "/", ":1"], "not allowed with argument"),
    ],
)
def test_where_nothing_can_be_asked_that_is_said(words: list[str], said: str) -> None:
    done = ran(pytunnel("status", *words))
    assert (done.returncode != 0, done.stdout, done.stderr.count("\n")) == (True, "", 1)
    assert said in done.stderr


def test_another_program_s_port_is_no_status() -> None:
    with serving(echo) as port:
        done = ran(pytunnel("status", f":{port}"))
    assert done.returncode == 1
    assert f"127.0.0.1:{port} gives no status of pytunnel's" in done.stderr
