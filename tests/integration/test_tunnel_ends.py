"""How tunnels end, and what ends a connection: signals, limits, failures. Nothing remains afterwards."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from lab.processes import mentioning
from lab.waiting import comes_true
from tests.support.ends import Ends
from tests.support.plain import dial, echo, is_refused, serving, talk
from tests.support.tunnels import LIMIT, Program, credentials, pytunnel, started


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    with ExitStack() as cleanup:
        yield Ends.make(tmp_path, cleanup)
    assert comes_true(lambda: not mentioning(tmp_path), LIMIT), mentioning(tmp_path)


def opened(entrance: int) -> socket.socket:
    """A connection through the tunnels to an echo, which has answered."""
    client = dial(entrance)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    return client


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_tunnel_without_connections_with_0(ends: Ends, number: signal.Signals) -> None:
    listening = ends.listen("exec:cat")
    listening.wait_for("accepting TLS")
    listening.signal(number)
    assert listening.wait() == 0
    listening.wait_for(f"{number.name} received: accepting no more connections")
    assert listening.lines[-1].endswith("INFO ended")
    assert is_refused(listening.place)


def test_a_unix_socket_goes_with_its_tunnel(ends: Ends, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    listening = ends.listen("exec:cat", source=f"unix:{path}")
    listening.wait_for("accepting TLS at unix:")
    assert path.is_socket()
    listening.signal(signal.SIGTERM)
    assert listening.wait() == 0
    assert not path.exists()


def test_an_open_connection_may_end_after_sigterm_but_no_new_one_begins(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat")
    with opened(connecting.port) as client:
        listening.signal(signal.SIGTERM)
        listening.wait_for(r"draining: open connections \(1\) have 30 s to end")
        assert comes_true(lambda: is_refused(listening.place), LIMIT)
        client.sendall(b"last words")
        assert client.recv(100) == b"last words"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert listening.wait() == 0
    listening.wait_for("ended: 11 bytes out, 11 in")


def test_a_connection_that_does_not_end_is_cut_off_when_draining_is_over(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat", "--drain-timeout", "0.3")
    with opened(connecting.port) as client:
        listening.signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert listening.wait() == 0
    listening.wait_for("WARNING the 0.3 s for draining are over: what was still open was cut off")


def test_a_second_signal_ends_at_once(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:sleep 1000")
    with dial(connecting.port) as client:
        assert comes_true(lambda: _programs_of(listening) == 1, LIMIT)
        listening.signal(signal.SIGTERM)
        listening.wait_for("draining: open connections")
        listening.signal(signal.SIGTERM)
        assert listening.wait() == 0
        listening.wait_for(r"SIGTERM received again: ending 1 open connections")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    assert _programs_of(listening) == 0


def _programs_of(program: Program) -> int:
    """How many children a program has; the kernel lists them with the thread that started them."""
    found = 0
    for listing in Path(f"/proc/{program.process.pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread, or the program, has just ended
            found += len(listing.read_text().split())
    return found


# Limits.


def test_an_idle_connection_is_ended_at_both_ends(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat", "--idle-timeout", "2")
    with opened(connecting.port) as client, pytest.raises(ConnectionResetError):
        client.recv(100)
    listening.wait_for(r"WARNING 127\.0\.0\.1:\d+ -> exec:cat: no byte either way for 2 s")
    connecting.wait_for("ended the connection without TLS's close_notify, so bytes may be missing")


def test_a_busy_connection_is_not_idle(ends: Ends) -> None:
    _, connecting = ends.pair("exec:cat", "--idle-timeout", "2")
    with opened(connecting.port) as client:
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            time.sleep(0.1)


def test_a_server_that_does_not_shake_hands_has_its_time(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        connecting = ends.connect(f"127.0.0.1:{port}", "--handshake-timeout", "0.3")
        with dial(connecting.port) as client, pytest.raises(ConnectionResetError):
            client.recv(100)
        connecting.wait_for(rf"127\.0\.0\.1:{port} did not finish the TLS handshake within 0\.3 s")


def test_programs_end_with_their_connections(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:sh -c 'cat; exec sleep 1000'", connect_options=("--idle-timeout", "2"))
    with opened(connecting.port) as client, pytest.raises(ConnectionResetError):
        client.recv(100)
    assert comes_true(lambda: _programs_of(listening) == 0, LIMIT)
    assert listening.process.poll() is None


COMMITS = """
import os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, 0.5))
os.write(1, b"ready")
sys.stdin.buffer.read()
pathlib.Path(__file__).with_name("complete").touch()
"""


@pytest.mark.parametrize("cut", ["connection", "draining"])
def test_a_program_does_not_take_a_cut_for_an_end_of_file(ends: Ends, tmp_path: Path, cut: str) -> None:
    (tmp_path / "commits.py").write_text(COMMITS)
    program = f"exec:{sys.executable} -S {tmp_path}/commits.py"
    listening, connecting = ends.pair(program, "--drain-timeout", "0.1", connect_options=("--drain-timeout", "0.1"))
    with dial(connecting.port) as client:
        assert client.recv(5) == b"ready"
        client.sendall(b"half of it")
        (connecting if cut == "connection" else listening).signal(signal.SIGTERM)
        assert comes_true(lambda: _programs_of(listening) == 0, LIMIT)
    assert not (tmp_path / "complete").exists()


# Clients that leave before their target is reached.


FOREVER = ("--sockopt", "forever,interval=0.1")


def test_clients_that_have_left_hold_no_place(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
    connecting = ends.connect(f"127.0.0.1:{port}", *FOREVER, "--max-connections", "3")
    for _ in range(3):
        dial(connecting.port).close()
    time.sleep(0.5)  # a client that comes before they have left finds no room
    with dial(connecting.port) as client:
        connecting.wait_for("was dropped before its target was reached: 3 were open")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):  # it waits for its target, and is not refused
            client.recv(1)


def test_a_client_that_broke_off_is_not_dialled_for(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
    connecting = ends.connect(f"127.0.0.1:{port}", *FOREVER)
    client = dial(connecting.port)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    connecting.wait_for(r"WARNING .* -> .*: .* left before its target was reached")


def test_a_client_that_has_said_all_still_gets_its_answer(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    connecting = ends.connect(place, *FOREVER)
    with dial(connecting.port) as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        time.sleep(1)  # the target comes up late
        ends.listen("exec:cat", source=place)
        assert client.recv(100) == b"question"


def test_draining_does_not_wait_for_targets_that_are_not_reached(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
    connecting = ends.connect(f"127.0.0.1:{port}", *FOREVER, "--drain-timeout", "1000")
    with dial(connecting.port) as client:
        time.sleep(0.2)
        connecting.signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert connecting.wait() == 0


# Failures.


def test_a_place_that_cannot_be_reached_is_named_at_the_end_that_tried(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    listening, connecting = ends.pair(f"127.0.0.1:{port}")
    with dial(connecting.port) as client, pytest.raises(ConnectionResetError):
        client.recv(100)
    listening.wait_for(rf"WARNING .* -> 127\.0\.0\.1:{port}: 127\.0\.0\.1:{port} can't be reached \(127\.0\.0\.1: conn")
    connecting.wait_for(r"WARNING .*ended the connection without TLS's close_notify, so bytes may be missing")


def test_a_server_s_reset_is_no_end_of_file_for_the_client(ends: Ends) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with serving(reset) as port, dial(ends.between(f"127.0.0.1:{port}")) as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(100)


def test_a_killed_tunnel_is_no_end_of_file_for_the_client(ends: Ends) -> None:
    with serving(echo) as port:
        words = pytunnel("listen", *credentials(ends.node2), "127.0.0.1:0", f"127.0.0.1:{port}")
        with started(words) as listening, opened(ends.connect(f"127.0.0.1:{listening.port}").port) as client:
            listening.process.kill()
            with pytest.raises(ConnectionResetError):
                client.recv(100)


# The one connection of stdio: and exec:.


@pytest.mark.parametrize("source", ["stdio:", "exec:cat"])
def test_the_one_connection_s_failure_is_the_exit_code(ends: Ends, source: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    connecting = ends.connect(f"127.0.0.1:{port}", source=source)
    assert connecting.wait() == 1
    connecting.wait_for(rf"ERROR .*: 127\.0\.0\.1:{port} can't be reached \(127\.0\.0\.1: connection refused\)")


def test_the_one_connection_that_is_refused_is_the_exit_code(ends: Ends) -> None:
    listening = ends.listen("exec:cat", "--peer-name", "node7.my.cluster")
    connecting = ends.connect(f"127.0.0.1:{listening.port}", source="stdio:", stdin=subprocess.PIPE)
    assert connecting.wait() == 1


def test_the_one_connection_is_cut_off_when_draining_is_over(ends: Ends) -> None:
    listening = ends.listen("exec:cat")
    connecting = ends.connect(
        f"127.0.0.1:{listening.port}", "--drain-timeout", "0.3", source="stdio:", stdin=subprocess.PIPE
    )
    assert comes_true(lambda: _programs_of(listening) == 1, LIMIT)
    connecting.signal(signal.SIGTERM)
    assert connecting.wait() == 1
    connecting.wait_for("the 0.3 s for draining are over")


# Settings that can't be used are found before anything listens.


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--ciphers", "FOO"], 22, "OpenSSL knows no cipher in 'FOO'"),
        (["--key", "/nowhere.key"], 2, "the key file /nowhere.key does not exist"),
        (["--sockopt", "dhparam=/nowhere.pem"], 22, "/nowhere.pem holds no DH parameters"),
        (["--sockopt", "snihost=a..b"], 1, "'a..b' is no host name"),
    ],
)
def test_bad_settings_are_one_line_before_anything_listens(
    ends: Ends, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    path = tmp_path / "x.sock"
    words = pytunnel("connect", *credentials(ends.node1), *options, f"unix:{path}", "localhost:1")
    with started(words) as failing:
        assert failing.wait() == code
    assert not path.exists()
    (line,) = failing.lines
    assert line.startswith("pytunnel: ")
    assert said in line


def test_a_key_that_is_not_the_certificate_s_is_found_before_anything_listens(ends: Ends, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    words = pytunnel(
        "listen", *credentials(ends.node1), "--key", str(ends.node2.certificate), f"unix:{path}", "exec:cat"
    )
    with started(words) as failing:
        assert failing.wait() == 22
    assert not path.exists()
    (line,) = failing.lines
    assert "does not belong to the certificate /CN=node1.my.cluster" in line


def test_a_port_that_is_taken_is_named(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with started(pytunnel("listen", *credentials(ends.node2), place, "exec:cat")) as failing:
            assert failing.wait() == 1
    assert failing.lines == [
        f"pytunnel: can't listen on {place}: address already in use; another program listens there"
    ]


def test_a_tunnel_can_listen_where_one_has_just_ended(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat")
    assert talk(connecting.port, b"one") == b"one"
    listening.signal(signal.SIGTERM)
    assert listening.wait() == 0
    host, port = listening.place
    again = ends.listen("exec:cat", source=f"{host}:{port}")
    assert again.place == (host, port)
    assert talk(connecting.port, b"two") == b"two"
