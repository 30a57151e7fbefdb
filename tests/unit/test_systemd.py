"""What is made of systemd's variables: which sockets are ours, where it wants to hear of us, how often."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from pytunnel.system.systemd import Notifier, passed_sockets, take_notifier
from pytunnel.transport import passed, places
from pytunnel.transport.endpoint import SystemdEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions
from tests.support.concurrency import in_trio

US = str(os.getpid())


def test_sockets_are_those_behind_the_standard_files_with_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "set_inheritable", lambda descriptor, inheritable: kept.append((descriptor, inheritable)))
    environment = {"LISTEN_PID": US, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "tls:other"}
    assert passed_sockets(environment) == [("tls", 3), ("other", 4)]
    assert kept == [(3, False), (4, False)]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": US, "LISTEN_FDS": "-1"},
        {"LISTEN_PID": US, "LISTEN_FDS": "x"},
        {"LISTEN_PID": US, "LISTEN_FDS": "0"},
    ],
)
def test_sockets_that_are_not_meant_for_us_are_none(environment: dict[str, str]) -> None:
    assert passed_sockets(environment) == []


@pytest.mark.parametrize(
    ("environment", "notifier"),
    [
        ({}, Notifier()),
        ({"NOTIFY_SOCKET": "/run/notify"}, Notifier("/run/notify")),
        ({"NOTIFY_SOCKET": "@notify"}, Notifier("\0notify")),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, Notifier()),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000"}, Notifier("/n", 30.0)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": US}, Notifier("/n", 30.0)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, Notifier("/n")),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, Notifier("/n")),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, Notifier("/n")),
    ],
)
def test_the_manager_is_where_its_variables_say(environment: dict[str, str], notifier: Notifier) -> None:
    assert take_notifier(environment) == notifier
    assert environment == {}


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int]]]:
    """What systemd passed, for a test to fill; what it leaves open is closed."""
    given: list[tuple[str, int]] = []
    monkeypatch.setattr(passed, "passed_sockets", lambda environment: list(given))
    yield given
    for _, descriptor in given:
        try:
            os.close(descriptor)
        except OSError:
            continue  # it was taken and closed


def listening() -> int:
    return socket.create_server(("127.0.0.1", 0)).detach()


@pytest.mark.parametrize(("wanted", "number"), [("tls", 2), ("status", 1), ("", 3)])
@in_trio
async def test_a_name_stands_for_its_sockets_and_none_for_all(
    sockets: list[tuple[str, int]], wanted: str, number: int
) -> None:
    sockets += [("tls", listening()), ("status", listening()), ("tls", listening())]
    listeners = await places.open_listeners(SystemdEndpoint(wanted), SocketOptions())
    assert len(listeners) == number
    for listener in listeners:
        await listener.aclose()


@in_trio
async def test_a_socket_that_was_passed_under_another_name_is_named(sockets: list[tuple[str, int]]) -> None:
    sockets.append(("http", listening()))
    with pytest.raises(TransportError, match=r"systemd:tls: systemd passed http to this process"):
        await places.open_listeners(SystemdEndpoint("tls"), SocketOptions())


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@in_trio
async def test_a_socket_that_does_not_accept_is_refused(
    sockets: list[tuple[str, int]], kind: socket.SocketKind
) -> None:
    sockets.append(("tls", socket.socket(socket.AF_INET, kind).detach()))
    with pytest.raises(TransportError, match=r"accepts no connections; expected ListenStream= and Accept=no"):
        await places.open_listeners(SystemdEndpoint("tls"), SocketOptions())


@in_trio
async def test_a_file_that_is_no_socket_is_refused(sockets: list[tuple[str, int]]) -> None:
    sockets.append(("tls", os.open("/dev/null", os.O_RDONLY)))
    with pytest.raises(TransportError, match=r"descriptor \d+ is no socket"):
        await places.open_listeners(SystemdEndpoint("tls"), SocketOptions())


@in_trio
async def test_nothing_is_carried_to_systemd() -> None:
    with pytest.raises(TransportError, match="none to carry them to"):
        await places.dial(SystemdEndpoint("tls"), SocketOptions())
