"""`--workers N`: several processes share a tunnel's connections, and end together."""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from lab.waiting import comes_true
from tests.support.ends import Ends
from tests.support.measuring import children
from tests.support.plain import dial, digest, digest_after_end, echo, is_refused, serving, some_data, talk
from tests.support.tunnels import LIMIT, Program, credentials, pytunnel, ran
from tests.support.web import ask

TWO = ("--workers", "2", "--debug")


def workers_of(program: Program) -> list[int]:
    """The process IDs of the workers, once all accept."""
    program.wait_for("2 workers share the connections")
    found = [program.wait_for(rf"worker {number} accepts: process (\d+)")[1] for number in (1, 2)]
    return [int(pid) for pid in found]


def is_running(pid: int) -> bool:
    """Whether the process is there, and no zombie that waits for an adoptive parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_byte_arrives_through_two_workers_on_each_side(ends: Ends) -> None:
    with serving(digest_after_end) as target:
        _, connecting = ends.pair(f"127.0.0.1:{target}", *TWO, connect_options=TWO)
        content = [some_data(1_000_000, seed) for seed in range(16)]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda data: talk(connecting.port, data), content))
    assert [answer.decode() for answer in answers] == [digest(data) for data in content]


def test_the_status_is_the_sum_of_all_workers(ends: Ends) -> None:
    with serving(echo) as target:
        listening, connecting = ends.pair(f"127.0.0.1:{target}", *TWO, "--status", ":0")
        workers_of(listening)
        with ExitStack() as held:
            open_some(held, connecting.port)
            assert told(listening) == (12, 12)
            assert ask(listening.status_port, "/readyz").status == 200


def test_what_a_worker_has_counted_outlives_it(ends: Ends) -> None:
    with serving(echo_until_cut) as target:
        listening, connecting = ends.pair(f"127.0.0.1:{target}", *TWO, "--status", ":0")
        workers = workers_of(listening)
        with ExitStack() as held:
            open_some(held, connecting.port)
            assert told(listening) == (12, 12)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            assert comes_true(lambda: told(listening) == (0, 12), LIMIT)
            assert comes_true(lambda: times_accepting(listening, 1) == times_accepting(listening, 2) == 2, LIMIT)
            assert told(listening) == (0, 12)


def test_workers_that_are_late_are_told_of_as_they_were(ends: Ends) -> None:
    with serving(echo) as target:
        listening, connecting = ends.pair(f"127.0.0.1:{target}", *TWO, "--status", ":0")
        workers = workers_of(listening)
        with ExitStack() as held:
            open_some(held, connecting.port)
            assert told(listening) == (12, 12)
            for pid in workers:
                os.kill(pid, signal.SIGSTOP)
                held.callback(os.kill, pid, signal.SIGCONT)
            assert told(listening) == (12, 12)
            assert ask(listening.status_port, "/readyz").status == 200


def open_some(held: ExitStack, port: int) -> None:
    """Twelve connections that have carried a byte each way."""
    for _ in range(12):
        connection = held.enter_context(dial(port))
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"


def told(program: Program) -> tuple[int, int]:
    """How many connections are open, and how many bytes went out, as the status has it."""
    (state,) = ask(program.status_port, "/status").document["tunnels"]
    return state["open"], state["bytes_out"]


def test_a_worker_that_dies_is_replaced_and_the_other_one_s_connections_live_on(ends: Ends) -> None:
    with serving(echo_until_cut) as target, ExitStack() as held:
        listening, connecting = ends.pair(f"127.0.0.1:{target}", *TWO)
        victim, _ = workers_of(listening)
        connections = [held.enter_context(dial(connecting.port)) for _ in range(16)]
        for connection in connections:
            connection.sendall(b"before")
            assert connection.recv(6) == b"before"
        os.kill(victim, signal.SIGKILL)
        listening.wait_for("ERROR worker 1 ended with SIGKILL: its connections are cut; another follows")
        answers = [answer_of(connection, b"after") for connection in connections]
        assert set(answers) <= {b"after", b""}
        assert b"after" in answers  # the other worker had some of them
        assert comes_true(lambda: times_accepting(listening, 1) == 2, LIMIT)
        assert talk(connecting.port, b"new") == b"new"


def echo_until_cut(connection: socket.socket) -> None:
    """For tests that cut connections off."""
    with suppress(ConnectionResetError):
        echo(connection)


def answer_of(connection: socket.socket, data: bytes) -> bytes:
    """What comes back; nothing from a connection that was cut."""
    try:
        connection.sendall(data)
        return connection.recv(100)
    except ConnectionError:
        return b""


def test_a_worker_that_ends_by_a_signal_without_a_name_is_replaced_too(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    victim, _ = workers_of(listening)
    os.kill(victim, signal.SIGRTMIN + 1)
    listening.wait_for(rf"ERROR worker 1 ended with signal {signal.SIGRTMIN + 1}: its connections are cut")
    assert comes_true(lambda: times_accepting(listening, 1) == 2, LIMIT)


def test_a_worker_that_finds_broken_files_is_tried_again_until_they_are_whole(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    victim, _ = workers_of(listening)
    file = ends.node2.certificate
    assert file is not None
    whole = file.read_bytes()
    file.write_bytes(b"half a")
    os.kill(victim, signal.SIGKILL)
    listening.wait_for(r"ERROR the certificate file \S+ holds no PEM text")
    listening.wait_for(r"ERROR worker 1 can't begin: exit code 22; tried again in 2 s")
    file.write_bytes(whole)
    assert comes_true(lambda: times_accepting(listening, 1) == 2, LIMIT)


def test_sigterm_does_not_wait_for_the_next_try_of_a_worker(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    victim, _ = workers_of(listening)
    file = ends.node2.certificate
    assert file is not None
    file.write_bytes(b"half a")
    os.kill(victim, signal.SIGKILL)
    listening.wait_for(r"ERROR worker 1 can't begin: exit code 22; tried again in 4 s")
    sent = time.monotonic()
    listening.signal(signal.SIGTERM)
    assert listening.wait() == 0
    assert time.monotonic() - sent < 4


def times_accepting(program: Program, number: int) -> int:
    return sum(f"worker {number} accepts" in line for line in program.lines)


def test_sigterm_lets_open_connections_end_and_stops_accepting(ends: Ends) -> None:
    with serving(echo) as target:
        listening, connecting = ends.pair(f"127.0.0.1:{target}", *TWO)
        workers = workers_of(listening)
        address = listening.place
        with dial(connecting.port) as connection:
            connection.sendall(b"one")
            assert connection.recv(3) == b"one"
            listening.signal(signal.SIGTERM)
            assert comes_true(lambda: is_refused(address), LIMIT)
            connection.sendall(b"two")
            assert connection.recv(3) == b"two"
        assert listening.wait() == 0
        assert not any(map(is_running, workers))


def test_sigterm_to_every_process_is_no_second_one(ends: Ends) -> None:
    with serving(echo_until_cut) as target:
        listening, connecting = ends.pair(f"127.0.0.1:{target}", *TWO)
        workers = workers_of(listening)
        with dial(connecting.port) as connection:
            connection.sendall(b"one")
            assert connection.recv(3) == b"one"
            listening.signal(signal.SIGTERM)
            listening.wait_for(r"draining: open connections \(1\)")
            for pid in filter(is_running, workers):  # as systemd does where a unit says nothing of KillMode=
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            for _ in range(10):
                connection.sendall(b"two")
                assert connection.recv(3) == b"two"
        assert listening.wait() == 0


def test_sigterm_while_a_worker_is_replaced_ends_well(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    first, second = workers_of(listening)
    os.kill(first, signal.SIGKILL)
    listening.wait_for("worker 1 ended with SIGKILL")
    assert comes_true(lambda: len(set(children(listening.process.pid)) - {first, second}) > 0, LIMIT, 0.01)
    listening.signal(signal.SIGTERM)
    assert listening.wait() == 0
    assert not any("Traceback" in line for line in listening.lines)


def test_a_second_signal_ends_at_once(ends: Ends) -> None:
    with serving(echo_until_cut) as target:
        listening, connecting = ends.pair(f"127.0.0.1:{target}", *TWO)
        workers = workers_of(listening)
        with dial(connecting.port) as connection:
            connection.sendall(b"one")
            assert connection.recv(3) == b"one"
            listening.signal(signal.SIGTERM)
            listening.wait_for("SIGTERM received: accepting no more")
            listening.signal(signal.SIGTERM)
            listening.wait()
            with pytest.raises(ConnectionResetError):  # cut off is not the same as ended
                connection.recv(1)
        assert not any(map(is_running, workers))


def test_no_worker_outlives_a_supervisor_that_was_killed(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    workers = workers_of(listening)
    address = listening.place
    listening.signal(signal.SIGKILL)
    listening.process.wait(LIMIT)
    assert comes_true(lambda: not any(map(is_running, workers)), LIMIT)
    assert is_refused(address)
    listening.wait_for("the process that supervises this one has gone")


def test_a_unix_socket_goes_with_the_service(ends: Ends, tmp_path: Path) -> None:
    path = tmp_path / "tunnel.sock"
    connecting = ends.connect("127.0.0.1:9", *TWO, source=f"unix:{path}")
    workers_of(connecting)
    assert path.is_socket()
    connecting.signal(signal.SIGTERM)
    assert connecting.wait() == 0
    assert not path.exists()


def test_sighup_lets_every_worker_read_the_certificates_again(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    workers_of(listening)
    listening.signal(signal.SIGHUP)
    renewed = "certificates renewed: new connections use"
    assert comes_true(lambda: sum(renewed in line for line in listening.lines) == 2, LIMIT)


def test_sighup_ends_no_worker_that_begins(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    assert comes_true(lambda: len(children(listening.process.pid)) == 2, LIMIT, 0.01)
    listening.signal(signal.SIGHUP)
    listening.wait_for("SIGHUP received: the workers read the certificates again")
    workers_of(listening)
    assert not any("can't begin" in line for line in listening.lines)


def test_sighup_ends_no_worker_that_begins_in_the_place_of_another(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    first, second = workers_of(listening)
    os.kill(first, signal.SIGKILL)
    listening.wait_for("worker 1 ended with SIGKILL")
    assert comes_true(lambda: len(set(children(listening.process.pid)) - {first, second}) > 0, LIMIT, 0.01)
    listening.signal(signal.SIGHUP)
    assert comes_true(lambda: times_accepting(listening, 1) == 2, LIMIT)
    assert not any("can't begin" in line for line in listening.lines)


def test_workers_are_confined_as_one_process_would_be(ends: Ends) -> None:
    listening = ends.listen("127.0.0.1:9", *TWO)
    for pid in workers_of(listening):
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()


def test_a_single_connection_can_not_be_shared(ends: Ends) -> None:
    done = ran(pytunnel("connect", *credentials(ends.node1), "--workers", "2", "stdio:", "127.0.0.1:9"))
    assert done.returncode == 2
    assert "--workers 2: stdio: to 127.0.0.1:9 is one connection, which can't be shared" in done.stderr


@pytest.mark.parametrize("value", ["0", "-1", "many", "257", ""])
def test_a_number_of_workers_that_is_none_is_refused(ends: Ends, value: str) -> None:
    done = ran(pytunnel("listen", *credentials(ends.node2), f"--workers={value}", "127.0.0.1:0", "127.0.0.1:9"))
    assert done.returncode == 2
    assert "expected a number from 1 to 256, or auto" in done.stderr
