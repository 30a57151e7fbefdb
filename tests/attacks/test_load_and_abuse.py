"""A tunnel under load, and under people who want it to fail: honest connections go on, memory stays where it was.

Memory is asserted generously: what a connection needs once (some 100 KiB while it carries data) and what the C library
keeps of it, but nothing that grows with the number of attempts. BOUND is for that.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest

from lab.ports import free_port
from lab.waiting import comes_true, until
from tests.support.ends import Ends
from tests.support.measuring import MEBI, open_files, resident
from tests.support.plain import Place, dial, digest, digest_after_end, echo, read_all, serving, some_data, talk
from tests.support.tunnels import LIMIT, Program, credentials, pytunnel, started

BOUND = 48 * MEBI

GARBAGE = (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 300, b"\x16\x03\x01\x10\x00" + b"\xff" * 0x1000, b"SSH-2.0-x\r\n", b".")
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)


@contextmanager
def honest_streams(entrance: int, count: int = 4) -> Iterator[None]:
    """Connections that carry data to an echo and back during the block; every byte must come back.

    All have been let in when the block begins: until then they are strangers, who may have to make room.
    """
    stop = threading.Event()
    let_in = threading.Semaphore(0)
    piece = some_data(50_000)

    def carry() -> int:
        rounds = 0
        with dial(entrance) as client:
            while rounds < 4 or not stop.is_set():
                client.sendall(piece)
                answer = b""
                while len(answer) < len(piece):
                    answer += client.recv(65536)
                assert digest(answer) == digest(piece)
                rounds += 1
                if rounds == 1:
                    let_in.release()
                stop.wait(0.02)
        return rounds

    with ThreadPoolExecutor(count) as pool:
        carrying: list[Future[int]] = []
        try:
            carrying += [pool.submit(carry) for _ in range(count)]
            assert all(let_in.acquire(timeout=LIMIT) for _ in range(count))
            yield
        finally:
            stop.set()
        assert all(each.result(LIMIT) for each in carrying)


@contextmanager
def memory_stays(program: Program, bound: int = BOUND) -> Iterator[None]:
    """The program's memory must not have grown by more than `bound` bytes at the end."""
    before = resident(program.process.pid)
    yield
    grown = resident(program.process.pid) - before
    assert grown < bound, f"{grown / MEBI:.0f} MiB more than before"


def at_once(action: Callable[[int], None], times: int, workers: int = 16) -> None:
    """Do it so many times, several at the same time."""
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(action, range(times)):
            pass


def counted(program: Program) -> int:
    """How many refused connections the log of a program that has ended tells of: lines, and what was left out."""
    left_out = sum(int(match[1]) for line in program.lines if (match := re.search(r"(\d+) more connections", line)))
    named = [text for text in program.warnings() if " more connections failed" not in text]
    assert len(named) <= 20, "more lines than two periods of the ration have"
    return left_out + len(named)


def ended(program: Program) -> None:
    program.process.terminate()
    program.wait()


# Strangers.


@pytest.mark.timeout(180)
def test_ten_thousand_garbage_handshakes(ends: Ends) -> None:
    with serving(echo) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}")
        place = listening.place

        def knock(number: int) -> None:
            with suppress(ConnectionError), dial(place) as connection:
                connection.sendall(GARBAGE[number % len(GARBAGE)])
                connection.shutdown(socket.SHUT_WR)
                read_all(connection)

        at_once(knock, 200)  # what is allocated once
        with honest_streams(connecting.port), memory_stays(listening):
            at_once(knock, 10_000)
        ended(listening)
    assert counted(listening) == 10_200


def test_five_hundred_half_open_handshakes(ends: Ends) -> None:
    with serving(echo) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}", "--handshake-timeout", "3")
        files = open_files(listening.process.pid)
        with honest_streams(connecting.port), memory_stays(listening), ExitStack() as strangers:
            for _ in range(500):
                strangers.enter_context(dial(listening.place)).sendall(HALF_A_HELLO)
            assert talk(connecting.port, b"a new one comes in") == b"a new one comes in"
            assert comes_true(lambda: open_files(listening.process.pid) < files + 50, LIMIT)
        ended(listening)
    assert counted(listening) == 500


def test_a_thousand_connections_opened_and_dropped(ends: Ends) -> None:
    with serving(echo) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}")

        def drop(number: int) -> None:
            connection = dial(listening.place)
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()

        with honest_streams(connecting.port), memory_stays(listening):
            at_once(drop, 1000)
            files = open_files(listening.process.pid)
            assert files < 100, f"{files} descriptors are open"
        ended(listening)
    assert counted(listening) <= 1000


def test_no_more_than_max_connections_are_carried_and_a_silent_stranger_holds_no_place(ends: Ends) -> None:
    with serving(echo) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}", "--max-connections", "8")
        with ExitStack() as opened:
            strangers = [opened.enter_context(dial(listening.place)) for _ in range(8)]
            clients = [opened.enter_context(dial(connecting.port)) for _ in range(8)]
            for client in clients:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            assert all(stranger.recv(1) == b"" for stranger in strangers if _is_over(stranger))
            with pytest.raises(ConnectionResetError), dial(connecting.port) as refused:
                refused.recv(1)
        listening.wait_for("refused: 8 connections are open, as many as allowed")


def _is_over(connection: socket.socket) -> bool:
    try:
        connection.recv(1, socket.MSG_PEEK)
    except ConnectionResetError:
        return False
    return True


def test_no_descriptors_left(ends: Ends) -> None:
    """EMFILE: strangers make room, honest streams go on, the log has some lines and not one for each attempt."""
    with serving(echo) as server:
        words = pytunnel("listen", *credentials(ends.node2), "127.0.0.1:0", f"127.0.0.1:{server}")
        with started(["sh", "-c", 'ulimit -n 60; exec "$@"', "sh", *words]) as listening:
            connecting = ends.connect(f"127.0.0.1:{listening.port}")
            with honest_streams(connecting.port), ExitStack() as strangers:
                for _ in range(150):
                    strangers.enter_context(dial(listening.place)).sendall(HALF_A_HELLO)
                listening.wait_for("no connection can be accepted now: Too many open files")
                assert _comes_in(connecting.port)
            ended(listening)
    assert len([line for line in listening.lines if "can be accepted" in line]) < 20
    assert "Traceback" not in "\n".join(listening.lines)


def _comes_in(entrance: int) -> bool:
    """Whether somebody honest gets through, who tries again a few times as honest programs do."""

    def tried() -> bool:
        try:
            return talk(entrance, b"hello") == b"hello"
        except ConnectionError:
            return False

    return comes_true(tried, LIMIT)


# Peers that are trusted, but behave badly.


def test_tiny_writes_arrive_as_they_were(ends: Ends) -> None:
    data = some_data(20_000)
    with serving(digest_after_end) as server, dial(ends.between(f"127.0.0.1:{server}")) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(data)):
            client.send(data[place : place + 1])
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).decode() == digest(data)


SIZE = 512 * MEBI
"""In each direction. A gigabyte takes twice as long and finds nothing else: all buffers turn over long before."""


def test_half_a_gigabyte_each_way_at_once(ends: Ends) -> None:
    piece = some_data(4 * MEBI)
    expected = hashlib.sha256()
    for _ in range(SIZE // len(piece)):
        expected.update(piece)
    digests: dict[str, str] = {}

    def exchange(name: str, connection: socket.socket) -> None:
        def send() -> None:
            for _ in range(SIZE // len(piece)):
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = hashlib.sha256()
        while data := connection.recv(MEBI):
            received.update(data)
        sender.join()
        digests[name] = received.hexdigest()

    with serving(lambda connection: exchange("server", connection)) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}")
        with memory_stays(listening), memory_stays(connecting), dial(connecting.port) as client:
            exchange("client", client)
            listening.wait_for(f"ended: {SIZE} bytes out, {SIZE} in")
    assert digests == dict.fromkeys(("server", "client"), expected.hexdigest())


def test_a_peer_that_never_reads_makes_the_sender_wait_and_no_buffer_grow(ends: Ends) -> None:
    sent, stop = [0], threading.Event()

    def flood(connection: socket.socket) -> None:
        if connection.recv(1) == b"e":
            connection.sendall(b"e" + connection.recv(100))
            return
        connection.settimeout(0.2)
        while not stop.is_set():
            with suppress(TimeoutError, OSError):
                sent[0] += connection.send(bytes(65536))

    with serving(flood) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}")
        with memory_stays(listening), memory_stays(connecting), dial(connecting.port) as silent:
            silent.sendall(b"f")
            assert comes_true(lambda: _is_still(sent), LIMIT, interval=0.5)
            assert talk(connecting.port, b"echo") == b"echo"
            stop.set()
    assert 0 < sent[0] < 64 * MEBI, "what lies in the kernel's buffers, and no more"


def _is_still(number: list[int]) -> bool:
    before = number[0]
    time.sleep(1)
    return number[0] == before > 0


def test_a_peer_that_never_closes_is_ended_by_the_idle_limit(ends: Ends) -> None:
    over = threading.Event()

    def never_close(connection: socket.socket) -> None:
        with suppress(ConnectionError):
            read_all(connection)
        over.wait(LIMIT)

    with serving(never_close) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}", "--idle-timeout", "1")
        with dial(connecting.port) as client:
            client.sendall(b"and now?")
            client.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        listening.wait_for("no byte either way for 1 s")
        over.set()


def test_a_backend_that_flaps(ends: Ends) -> None:
    """While it is away every connection is an error, never an end of file; when it is back all is as before."""
    server = free_port("127.0.0.1")
    listening, connecting = ends.pair(f"127.0.0.1:{server}")
    outcomes: list[str] = []
    for _ in range(6):
        outcomes.append(_outcome(connecting.port))
        with _serving_at(server):
            outcomes.append(_outcome(connecting.port))
    assert outcomes == ["reset", "echo"] * 6
    until(lambda: open_files(listening.process.pid) < 40, LIMIT, "the connections to be closed")


def _outcome(entrance: Place | int) -> str:
    try:
        return talk(entrance, b"echo").decode()
    except ConnectionResetError:
        return "reset"


@contextmanager
def _serving_at(port: int) -> Iterator[None]:
    """An echo at this very port."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        echo(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(LIMIT)
