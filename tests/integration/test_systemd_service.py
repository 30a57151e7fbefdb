"""What systemd sees of a tunnel: when it is ready, reloads, stops, lives; and the sockets that it opened before."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.certificates import self_signed
from lab.ports import free_port
from pytunnel.tls.settings import TlsSettings
from tests.support.credentials import settings_of
from tests.support.ends import NODE2
from tests.support.plain import talk
from tests.support.programs import needs
from tests.support.tunnels import LIMIT, credentials, pytunnel, started


class Manager:
    """The socket at which a service manager hears of a service."""

    def __init__(self, address: str) -> None:
        self.address = address.replace("\0", "@")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(LIMIT)

    def hears(self) -> dict[str, str]:
        """The next message."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def close(self) -> None:
        self._socket.close()


@contextmanager
def managed(address: str) -> Iterator[Manager]:
    manager = Manager(address)
    try:
        yield manager
    finally:
        manager.close()


@pytest.fixture
def node(tmp_path: Path) -> TlsSettings:
    own = self_signed(NODE2)
    return settings_of(tmp_path / "node2", own, [own])


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    with managed(str(tmp_path / "notify") if request.param == "path" else f"\0pytunnel-test-{os.getpid()}") as made:
        yield made


def listen(node: TlsSettings, source: str = "127.0.0.1:0", target: str = "exec:cat") -> list[str]:
    return pytunnel("listen", *credentials(node), source, target)


def through_another(node: TlsSettings, port: int, data: bytes) -> bytes:
    """What comes back of the data through a `connect` to a tunnel's port."""
    options = ["--peer-name", NODE2, "127.0.0.1:0", f"127.0.0.1:{port}"]
    with started(pytunnel("connect", *credentials(node), *options)) as connecting:
        return talk(connecting.port, data)


def test_the_manager_is_told_of_the_whole_life(node: TlsSettings, manager: Manager) -> None:
    with started(listen(node), environment={"NOTIFY_SOCKET": manager.address}) as program:
        assert manager.hears() == {"READY": "1", "STATUS": f"accepting at 127.0.0.1:{program.port}"}
        program.signal(signal.SIGHUP)
        reloading = manager.hears()
        assert reloading["RELOADING"] == "1"
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert manager.hears()["READY"] == "1"
        program.signal(signal.SIGTERM)
        assert manager.hears()["STOPPING"] == "1"
        assert program.wait() == 0


def test_a_service_of_several_workers_is_ready_when_all_are(node: TlsSettings, tmp_path: Path) -> None:
    with managed(str(tmp_path / "notify")) as manager:
        environment = {"NOTIFY_SOCKET": manager.address}
        with started([*listen(node), "--workers", "2"], environment=environment) as program:
            assert manager.hears()["READY"] == "1"
            program.wait_for("2 workers share the connections")
            program.signal(signal.SIGTERM)
            assert manager.hears()["STOPPING"] == "1"
            assert program.wait() == 0


def test_the_watchdog_hears_of_us_twice_in_its_time(node: TlsSettings, tmp_path: Path) -> None:
    with managed(str(tmp_path / "notify")) as manager:
        environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"}
        with started(listen(node), environment=environment) as program:
            heard = [manager.hears() for _ in range(6)]
            assert heard.count({"WATCHDOG": "1"}) == 5
            assert program.process.poll() is None


def test_programs_that_we_start_are_not_taken_for_us(node: TlsSettings, tmp_path: Path) -> None:
    with managed(str(tmp_path / "notify")) as manager:
        environment = {"NOTIFY_SOCKET": manager.address}
        words = listen(node, "127.0.0.1:0", f"exec:sh -c 'env > {tmp_path}/seen; cat'")
        with started(words, environment=environment) as program:
            assert through_another(node, program.port, b"x") == b"x"
        assert "NOTIFY_SOCKET" not in (tmp_path / "seen").read_text()


def test_a_manager_that_is_gone_is_no_reason_to_end(node: TlsSettings, tmp_path: Path) -> None:
    with started(listen(node), environment={"NOTIFY_SOCKET": str(tmp_path / "nobody")}) as program:
        program.wait_for("accepting ")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0


@needs("systemd-socket-activate")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_socket_that_was_passed_accepts(node: TlsSettings, workers: str) -> None:
    port = free_port("127.0.0.1")
    environment = ["-E", f"PYTHONPATH={Path(__file__).parents[2] / 'src'}", "-E", "PYTHONUNBUFFERED=1"]
    activate = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--fdname=tls", *environment]
    with started([*activate, *listen(node, "systemd:tls"), "--workers", workers]) as program:
        program.wait_for("Listening on")
        assert through_another(node, port, b"x") == b"x"
        program.wait_for(f"accepting TLS at 127.0.0.1:{port}, ")


def test_a_socket_that_was_not_passed_is_named(node: TlsSettings) -> None:
    with started(listen(node, "systemd:tls")) as program:
        assert program.wait() == 1
    assert program.lines[-1].startswith("pytunnel: systemd:tls: systemd passed no socket at all to this process;")


def test_systemd_is_no_place_to_carry_to(node: TlsSettings) -> None:
    with started(listen(node, "127.0.0.1:0", "systemd:tls")) as program:
        assert program.wait() == 2
    assert "give it as FROM" in program.lines[-1]
