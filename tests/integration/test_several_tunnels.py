"""Several tunnels in one process, from one file: each works as if it were alone, and they begin and end together."""

from __future__ import annotations

import json
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

from lab.waiting import comes_true
from tests.support.ends import NODE1, NODE2, Ends
from tests.support.plain import dial, is_refused, talk
from tests.support.tunnels import LIMIT, Program, pytunnel, ran, started


def table(name: str, mode: str, source: str, target: str, *more: str) -> str:
    lines = (f'name = "{name}"', f'mode = "{mode}"', f'from = "{source}"', f'to = "{target}"', *more)
    return "\n".join(("[[tunnel]]", *lines, ""))


def config(ends: Ends, folder: Path, *tables: str) -> Path:
    """A file with these tunnels, whose certificate is node2's."""
    file = folder / "pytunnel.toml"
    top = f'cert = "{ends.node2.certificate}"\nca = "{ends.node2.ca}"\n'
    file.write_text(top + "\n".join(tables))
    return file


def port_of(running: Program, name: str) -> int:
    return int(running.wait_for(rf"INFO {name}: accepting .*? at 127\.0\.0\.1:(\d+)")[1])


def test_each_tunnel_carries_with_its_own_options(ends: Ends, tmp_path: Path) -> None:
    node1 = f'cert = "{ends.node1.certificate}"'
    place = "127.11.12.13:4444"
    inner = table("in", "listen", place, "exec:cat", f'peer-name = "{NODE1}"')
    outer = table("out", "connect", "127.0.0.1:0", place, f'peer-name = "{NODE2}"', node1)
    with started(pytunnel("run", "--config", str(config(ends, tmp_path, inner, outer)))) as running:
        assert talk(port_of(running, "out"), b"both ways") == b"both ways"
        for name in ("in", "out"):
            running.wait_for(rf"INFO {name}: .* ended: 9 bytes out, 9 in")
        running.signal(signal.SIGTERM)
        assert running.wait() == 0


def test_one_signal_drains_all_and_the_process_ends_with_the_last(ends: Ends, tmp_path: Path) -> None:
    tables = [table(name, "listen", "127.0.0.1:0", "exec:cat") for name in ("one", "two")]
    with started(pytunnel("run", "--config", str(config(ends, tmp_path, *tables)))) as running:
        ports = [port_of(running, name) for name in ("one", "two")]
        connecting = ends.connect(f"127.0.0.1:{ports[1]}")
        with dial(connecting.port) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            running.signal(signal.SIGTERM)
            running.wait_for(r"INFO two: draining: open connections \(1\)")
            assert comes_true(lambda: all(map(is_refused, ports)), LIMIT)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        assert running.wait() == 0


def test_a_second_signal_ends_the_connections_of_all(ends: Ends, tmp_path: Path) -> None:
    tables = [table(name, "listen", "127.0.0.1:0", "exec:cat") for name in ("one", "two")]
    with started(pytunnel("run", "--config", str(config(ends, tmp_path, *tables)))) as running, ExitStack() as open_:
        for name in ("one", "two"):
            client = open_.enter_context(dial(ends.connect(f"127.0.0.1:{port_of(running, name)}").port))
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        running.signal(signal.SIGTERM)
        running.wait_for("INFO two: draining")
        running.signal(signal.SIGTERM)
        running.wait_for("SIGTERM received again: ending 2 open connections")
        assert running.wait() == 0


def test_nothing_listens_before_all_are_found_right(ends: Ends, tmp_path: Path) -> None:
    first = table("first", "listen", "127.0.0.1:0", "exec:cat")
    second = table("second", "listen", "127.0.0.1:0", "exec:cat", 'key = "/nowhere.key"')
    file = config(ends, tmp_path, first, second)
    done = ran(pytunnel("run", "--config", str(file)))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line == f"pytunnel: tunnel second of {file}: " + line.partition(f"{file}: ")[2]
    assert "/nowhere.key does not exist" in line


def test_where_one_can_not_listen_none_does(ends: Ends, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = table("first", "listen", "127.21.22.23:4444", "exec:cat")
        second = table("second", "listen", f"127.0.0.1:{taken.getsockname()[1]}", "exec:cat")
        file = config(ends, tmp_path, first, second)
        done = ran(pytunnel("run", "--config", str(file)))
    assert done.returncode == 1
    assert f"tunnel second of {file}: can't listen on" in done.stderr
    assert "accepting" not in done.stderr
    assert is_refused(("127.21.22.23", 4444))


def test_an_event_of_the_log_names_its_tunnel(ends: Ends, tmp_path: Path) -> None:
    tables = [table(name, "listen", "127.0.0.1:0", "exec:cat") for name in ("one", "two")]
    words = pytunnel("run", "--config", str(config(ends, tmp_path, *tables)), "--log-format", "json")
    with started(words) as running:
        running.wait_for('"tunnel": "two"')
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
    events = [json.loads(line) for line in running.lines]
    accepting = [event["tunnel"] for event in events if event["message"].startswith("accepting TLS")]
    assert accepting == ["one", "two"]
    assert "tunnel" not in events[-1]
