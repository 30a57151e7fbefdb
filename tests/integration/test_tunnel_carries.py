"""`pytunnel connect` and `pytunnel listen` together: what goes in comes out, from and to every kind of place."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from filecmp import cmpfiles
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.credentials import settings_of
from tests.support.ends import EXPECT_NODE2, Ends
from tests.support.plain import (
    dial,
    digest,
    digest_after_end,
    echo,
    is_refused,
    read_all,
    serving,
    some_data,
    talk,
)
from tests.support.programs import needs
from tests.support.tunnels import credentials, pytunnel, started, tunnel


@pytest.fixture(scope="module")
def to_digest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The entrance of two tunnels to a server that answers with a digest."""
    with serving(digest_after_end) as port, ExitStack() as cleanup:
        yield Ends.make(tmp_path_factory.mktemp("digest"), cleanup).between(f"127.0.0.1:{port}")


@pytest.fixture(scope="module")
def to_echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The entrance of two tunnels to a server that sends everything back."""
    with serving(echo) as port, ExitStack() as cleanup:
        yield Ends.make(tmp_path_factory.mktemp("echo"), cleanup).between(f"127.0.0.1:{port}")


# TCP.


@pytest.mark.parametrize("size", [0, 1, 100, 20_000_000])
def test_everything_arrives_and_the_answer_comes_after_the_end_of_file(to_digest: int, size: int) -> None:
    data = some_data(size)
    assert talk(to_digest, data).decode() == digest(data)


def test_much_goes_both_ways_at_once(to_echo: int) -> None:
    data = some_data(20_000_000)
    assert digest(talk(to_echo, data)) == digest(data)


def test_a_hundred_connections_at_once(to_echo: int) -> None:
    contents = [some_data(100_000, seed) for seed in range(100)]
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda data: talk(to_echo, data), contents))
    assert [digest(answer) for answer in answers] == [digest(data) for data in contents]


def test_a_server_may_speak_first_and_in_turns(ends: Ends) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"hello, who is there?\n")
        name = connection.recv(100)
        connection.sendall(b"welcome " + name)
        assert connection.recv(100) == b"bye\n"

    with serving(greet) as port, dial(ends.between(f"127.0.0.1:{port}")) as client:
        assert client.recv(100) == b"hello, who is there?\n"
        client.sendall(b"node1\n")
        assert client.recv(100) == b"welcome node1\n"
        client.sendall(b"bye\n")
        assert client.recv(100) == b""


def test_a_server_s_end_of_file_does_not_end_what_the_client_still_sends(ends: Ends) -> None:
    received = threading.Event()

    def stop_speaking(connection: socket.socket) -> None:
        connection.sendall(b"nothing more from me")
        connection.shutdown(socket.SHUT_WR)
        assert digest(read_all(connection)) == digest(some_data(3_000_000))
        received.set()

    with serving(stop_speaking) as port, dial(ends.between(f"127.0.0.1:{port}")) as client:
        assert read_all(client) == b"nothing more from me"
        client.sendall(some_data(3_000_000))
        client.shutdown(socket.SHUT_WR)
        assert received.wait(20)


def test_a_connection_that_is_reset_is_reset_at_the_other_end(ends: Ends) -> None:
    outcome: list[str] = []
    ended = threading.Event()

    def wait(connection: socket.socket) -> None:
        connection.sendall(b"welcome")
        try:
            outcome.append(repr(connection.recv(100)))
        except ConnectionResetError:
            outcome.append("reset")
        ended.set()

    with serving(wait) as port, dial(ends.between(f"127.0.0.1:{port}")) as client:
        assert client.recv(7, socket.MSG_WAITALL) == b"welcome"  # for who leaves before, nobody is dialled
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        assert ended.wait(20)
    assert outcome == ["reset"]


def test_ipv6(ends: Ends) -> None:
    if not socket.has_ipv6 or not _has_loopback_v6():
        pytest.skip("this host has no IPv6; run the tests on one that has")
    with serving(echo) as port:
        listening = ends.listen(f"127.0.0.1:{port}", source="[::1]:0")
        entrance = ends.connect(f"[::1]:{listening.port}").port
        assert talk(entrance, b"over IPv6") == b"over IPv6"


def _has_loopback_v6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        return probe.connect_ex(("::1", 1)) != 99  # EADDRNOTAVAIL


def test_the_target_s_own_name_is_expected_without_any_option(tmp_path: Path) -> None:
    own = self_signed("localhost")
    settings = settings_of(tmp_path / "localhost", own, [own])
    with (
        serving(echo) as port,
        tunnel("listen", settings, "localhost:0", f"127.0.0.1:{port}") as listening,
        tunnel("connect", settings, "127.0.0.1:0", f"localhost:{listening.port}") as connecting,
    ):
        assert talk(connecting.port, b"hello") == b"hello"
        connecting.wait_for(r"ended: 5 bytes out, 5 in, \S+ s, TLSv1\.3 TLS_AES_128_GCM_SHA256 with CN=localhost")
        listening.wait_for(r"ended: 5 bytes out, 5 in")


def test_peers_of_other_networks_are_refused(ends: Ends) -> None:
    with serving(echo) as port:
        listening = ends.listen(f"127.0.0.1:{port}", "--sockopt", "range=10.0.0.0/8")
        with pytest.raises(ConnectionResetError), dial(listening.port) as client:
            client.recv(100)
        listening.wait_for(r"WARNING 127\.0\.0\.1:\d+ refused: its address is not in the allowed range")


# Unix sockets, programs, standard input and output.


def test_unix_sockets_at_both_ends(ends: Ends, tmp_path: Path) -> None:
    entrance, exit_ = tmp_path / "in.sock", tmp_path / "out.sock"
    with serving(digest_after_end, exit_):
        listening = ends.listen(f"unix:{exit_}", source=f"unix:{tmp_path}/tls.sock")
        listening.wait_for("accepting TLS at unix:")
        connecting = ends.connect(f"unix:{tmp_path}/tls.sock", source=f"unix:{entrance}")
        connecting.wait_for("accepting plain connections at unix:")
        assert entrance.stat().st_mode & 0o777 == 0o600
        data = some_data(1_000_000)
        assert talk(str(entrance), data).decode() == digest(data)


def test_a_program_for_each_connection(ends: Ends) -> None:
    entrance = ends.between("exec:sh -c 'cat; echo and an end from $$'")
    answers = [talk(entrance, b"a beginning, "), talk(entrance, b"a beginning, ")]
    assert all(answer.startswith(b"a beginning, and an end from ") for answer in answers)
    assert len(set(answers)) == 2


def test_standard_input_and_output_of_files(ends: Ends, tmp_path: Path) -> None:
    data = some_data(3_000_000)
    (tmp_path / "in").write_bytes(data)
    listening = ends.listen("exec:cat")
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        connecting = ends.connect(f"127.0.0.1:{listening.port}", source="stdio:", stdin=stdin, stdout=stdout)
        assert connecting.wait() == 0
    assert digest((tmp_path / "out").read_bytes()) == digest(data)


def test_standard_input_and_output_of_pipes(ends: Ends) -> None:
    listening = ends.listen("exec:cat")
    words = pytunnel("connect", *credentials(ends.node1), *EXPECT_NODE2, "stdio:", f"127.0.0.1:{listening.port}")
    with started(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as connecting:
        stdin, stdout = connecting.process.stdin, connecting.process.stdout
        assert stdin is not None
        assert stdout is not None
        for word in (b"one\n", b"two\n"):
            stdin.write(word)
            stdin.flush()
            assert stdout.readline() == word
        stdin.close()
        assert stdout.read() == b""
        assert connecting.wait() == 0


def test_standard_output_as_the_target_takes_one_connection_and_ends(ends: Ends, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as stdout:
        listening = ends.listen("stdio:", stdout=stdout)
        entrance = ends.connect(f"127.0.0.1:{listening.port}").port
        with dial(entrance) as client:
            client.sendall(b"for one ")
            listening.wait_for("accepting TLS")
            client.sendall(b"connection")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
        assert listening.wait() == 0
    assert is_refused(listening.place)
    assert (tmp_path / "out").read_bytes() == b"for one connection"


def test_a_program_as_the_source_is_one_connection(ends: Ends, tmp_path: Path) -> None:
    def answer(connection: socket.socket) -> None:
        assert connection.recv(100) == b"hello\n"
        connection.sendall(b"welcome\n")
        assert connection.recv(100) == b""

    with serving(answer) as port:
        listening = ends.listen(f"127.0.0.1:{port}")
        program = f"exec:sh -c 'echo hello; read answer; echo $answer > {tmp_path}/answer'"
        connecting = ends.connect(f"127.0.0.1:{listening.port}", source=program)
        assert connecting.wait() == 0
    assert (tmp_path / "answer").read_text() == "welcome\n"


@needs("rsync")
def test_rsync_copies_a_directory(ends: Ends, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    (source / "deeper").mkdir(parents=True)
    copy.mkdir()
    for number in range(20):
        (source / "deeper" / f"table{number}.ibd").write_bytes(some_data(200_000, number))
    (copy / "dropped.ibd").write_bytes(b"must go")
    (tmp_path / "rsyncd.conf").write_text(f"use chroot = no\n[data]\npath = {copy}\nread only = no\n{_own_user()}")
    port = ends.between(f"exec:rsync --daemon --config={tmp_path}/rsyncd.conf")
    subprocess.run(
        ["rsync", "-a", "--delete", "--timeout=20", f"{source}/", f"rsync://127.0.0.1:{port}/data/"],
        check=True,
        timeout=60,
    )
    assert {path.name for path in copy.iterdir()} == {"deeper"}
    names = [f"table{number}.ibd" for number in range(20)]
    assert cmpfiles(source / "deeper", copy / "deeper", names, shallow=False) == (names, [], [])


def _own_user() -> str:
    """An rsync daemon of root's would run as nobody."""
    return "uid = 0\ngid = 0\n" if os.geteuid() == 0 else ""


# Limits, settings, log.


def test_a_connection_too_many_is_refused_until_one_ends(ends: Ends) -> None:
    with serving(echo) as port:
        listening, connecting = ends.pair(f"127.0.0.1:{port}", "--max-connections", "2")
        entrance = connecting.port
        with dial(entrance) as first, dial(entrance) as second:
            for client in (first, second):
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            with pytest.raises(ConnectionResetError), dial(entrance) as third:
                third.recv(1)
            listening.wait_for("refused: 2 connections are open, as many as allowed")
            first.shutdown(socket.SHUT_WR)
            assert first.recv(1) == b""
        listening.wait_for(r"ended: 1 bytes out, 1 in")
        assert talk(entrance, b"again") == b"again"


def test_without_a_file_descriptor_left_only_new_connections_fail(ends: Ends) -> None:
    with serving(echo) as port:
        words = pytunnel("listen", *credentials(ends.node2), "127.0.0.1:0", f"127.0.0.1:{port}")
        limited = [sys.executable, "-c", _WITH_FEW_DESCRIPTORS, *words]
        with started(limited) as listening, ExitStack() as clients:
            entrance = ends.connect(f"127.0.0.1:{listening.port}").port
            first = clients.enter_context(dial(entrance))
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            for _ in range(30):
                clients.enter_context(dial(entrance))
            listening.wait_for("(?i)too many open files")
            first.sendall(b"y")
            assert first.recv(1) == b"y"
            assert listening.process.poll() is None
            clients.close()
            listening.wait_for("ended: 2 bytes out, 2 in")
            assert talk(entrance, b"again") == b"again"
            assert not [line for line in listening.lines if "Traceback" in line]


_WITH_FEW_DESCRIPTORS = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_settings_from_the_environment_and_a_file(ends: Ends, tmp_path: Path) -> None:
    (tmp_path / "listen.toml").write_text(f'cert = "{ends.node2.certificate}"\nca = "{ends.node2.ca}"\n')
    environment = {
        "PYTUNNEL_CERT": str(ends.node1.certificate),
        "PYTUNNEL_CA": str(ends.node1.ca),
        "PYTUNNEL_PEER_NAME": "node7.my.cluster,node2.my.cluster",
        "PYTUNNEL_TLS_MIN": "1.3",
    }
    words = pytunnel("listen", "--config", str(tmp_path / "listen.toml"), "127.0.0.1:0", "exec:cat")
    with (
        started(words) as listening,
        started(pytunnel("connect", "127.0.0.1:0", f"127.0.0.1:{listening.port}"), environment=environment) as entrance,
    ):
        assert talk(entrance.port, b"hello") == b"hello"
        entrance.wait_for(r"peers: node7\.my\.cluster or node2\.my\.cluster; TLS 1\.3 or later")


def test_the_set_up_is_logged_with_all_names_and_no_key(ends: Ends) -> None:
    listening, connecting = ends.pair("exec:cat", "--debug", connect_options=("--debug",))
    assert talk(connecting.port, b"hello") == b"hello"
    connecting.wait_for("ended: 5 bytes out")
    listening.wait_for("ended: 5 bytes out")
    listening.wait_for(
        rf"certificate /CN=node2\.my\.cluster from {ends.node2.certificate}, valid until \d{{4}}-\d\d-\d\d; "
        rf"CA {ends.node2.ca} \(2 certificates\); peers: any peer that the CA vouches for; TLS 1\.2 or later"
    )
    listening.wait_for(r"accepting TLS at 127\.\S+:4444, carrying it in plain to exec:cat")
    connecting.wait_for(r"accepting plain connections at 127\.0\.0\.1:\d+, carrying it inside TLS to 127\.\S+:4444")
    connecting.wait_for(r"peers: node2\.my\.cluster")
    for settings, program in ((ends.node1, connecting), (ends.node2, listening)):
        assert settings.certificate is not None
        secret = settings.certificate.read_text().split("-----")[2].split()
        assert len(secret) > 1
        assert not [line for line in program.lines for piece in secret if piece in line]


def test_a_log_in_json_is_one_object_a_line(ends: Ends) -> None:
    listening = ends.listen("exec:cat", "--log-format", "json")
    port = listening.wait_for(r"accepting TLS at 127\.0\.0\.1:(\d+)")[1]
    assert talk(ends.connect(f"127.0.0.1:{port}").port, b"hello") == b"hello"
    listening.wait_for("ended: 5 bytes out")
    events = [json.loads(line) for line in listening.lines]
    assert {event["level"] for event in events} == {"info"}
    ended = events[-1]
    assert (ended["bytes_out"], ended["bytes_in"], ended["peer"], ended["target"]) == (
        5,
        5,
        "CN=node1.my.cluster",
        "exec:cat",
    )


def test_peers_that_are_not_verified_are_warned_of_at_both_ends(ends: Ends) -> None:
    listening = ends.listen("exec:cat", "--no-verify")
    connecting = ends.cleanup.enter_context(
        tunnel("connect", ends.node1, "127.0.0.1:0", f"127.0.0.1:{listening.port}", "--sockopt", "verify=0")
    )
    assert talk(connecting.port, b"hello") == b"hello"
    for program in (listening, connecting):
        program.wait_for("WARNING peers are NOT verified .*: anyone on the path can read and change the data")
