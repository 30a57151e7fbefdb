"""How bytes reach another place: sockets of this host, programs, and our own standard input and output."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from lab.waiting import comes_true
from pytunnel.transport import places, process, unix
from pytunnel.transport.endpoint import (
    Endpoint,
    ExecEndpoint,
    StdioEndpoint,
    SystemdEndpoint,
    TcpEndpoint,
    UnixEndpoint,
    WebSocketEndpoint,
)
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import Retry, SocketOptions
from pytunnel.transport.stdio import OneConnection
from tests.support.concurrency import in_trio

DEFAULT = SocketOptions()
LOCAL = TcpEndpoint("127.0.0.1", 0)


Stream = trio.abc.HalfCloseableStream
Answer = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class Names(trio.abc.HostnameResolver):
    """Answers for the names of these tests, whatever the host's resolver knows."""

    def __init__(self, **addresses: tuple[str, ...]) -> None:
        self.addresses = addresses

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return [answer for address in self.addresses[(host or b"").decode()] for answer in _read(address, port, family)]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


def _read(address: str, port: bytes | str | int | None, family: int) -> list[Answer]:
    """An IP address as getaddrinfo returns it; nobody is asked."""
    try:
        return list(socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST))
    except socket.gaierror:  # of another family than is wanted
        return []


def socket_of(opened: object) -> trio.socket.SocketType:
    found = getattr(opened, "socket", None)
    assert isinstance(found, trio.socket.SocketType)
    return found


def host_of(opened: object) -> str:
    return str(socket_of(opened).getsockname()[0])


def port_of(opened: object) -> int:
    return int(socket_of(opened).getsockname()[1])


async def listening(
    endpoint: TcpEndpoint = LOCAL, options: SocketOptions = DEFAULT
) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    return await places.open_listeners(endpoint, options)


async def connected(
    options: SocketOptions = DEFAULT, listen_options: SocketOptions = DEFAULT
) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """The dialling and the accepted end of a TCP connection."""
    (listener,) = await listening(LOCAL, listen_options)
    dialled = await places.dial(TcpEndpoint("127.0.0.1", port_of(listener)), options)
    accepted = await listener.accept()
    await listener.aclose()
    return dialled, accepted


async def failure(endpoint: Endpoint, options: SocketOptions = DEFAULT) -> str:
    with pytest.raises(TransportError) as caught:
        await places.dial(endpoint, options)
    return str(caught.value)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    while data := await stream.receive_some():
        received += data
    return received


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


# TCP.


@in_trio
async def test_port_0_is_a_free_port_the_same_on_every_address() -> None:
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.1", "127.0.0.2")))
    listeners = await listening(TcpEndpoint("both", 0))
    assert [host_of(item) for item in listeners] == ["127.0.0.1", "127.0.0.2"]
    assert len({port_of(item) for item in listeners}) == 1


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6; run the tests on one that has")
@in_trio
async def test_no_host_is_every_address_of_both_families() -> None:
    listeners = await listening(TcpEndpoint("", 0))
    assert {host_of(item) for item in listeners} == {"0.0.0.0", "::"}  # noqa: S104 - that is asked for


@in_trio
async def test_one_family_is_listened_on_where_it_is_asked_for() -> None:
    listeners = await listening(TcpEndpoint("", 0), SocketOptions(family=socket.AF_INET))
    assert [socket_of(item).family for item in listeners] == [socket.AF_INET]


@in_trio
async def test_a_name_with_an_ipv6_address_that_is_switched_off_is_listened_on_at_the_other() -> None:
    trio.socket.set_custom_hostname_resolver(Names(localhost=("2001:db8::1", "127.0.0.1")))
    (listener,) = await listening(TcpEndpoint("localhost", 0))
    assert host_of(listener) == "127.0.0.1"


@pytest.mark.parametrize("host", ["2001:db8::1", "192.0.2.1"])
@in_trio
async def test_an_address_of_another_host_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(TransportError, match=r"cannot assign requested address; is the address one of this host's\?"):
        await listening(TcpEndpoint(host, 0))


@in_trio
async def test_one_address_of_a_name_that_cannot_be_listened_on_closes_the_others() -> None:
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.1", "192.0.2.1")))
    (listener,) = await listening()
    port = port_of(listener)
    await listener.aclose()
    with pytest.raises(TransportError):
        await listening(TcpEndpoint("both", port))
    assert "connection refused" in await failure(TcpEndpoint("127.0.0.1", port))


@in_trio
async def test_a_port_that_is_taken_is_told_apart() -> None:
    (listener,) = await listening()
    with pytest.raises(TransportError, match="address already in use; another program listens there") as caught:
        await listening(TcpEndpoint("127.0.0.1", port_of(listener)))
    assert caught.value.port_taken


@in_trio
async def test_a_port_that_only_root_may_have_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with trio.socket.socket() as sock:
        monkeypatch.setattr(type(sock), "bind", refuse)  # root, as which this may run, is refused nothing
    with pytest.raises(TransportError, match=r"permission denied; a port below 1024 is for root, .*CAP_NET_BIND_SER"):
        await listening(TcpEndpoint("127.0.0.1", 443))


@in_trio
async def test_the_bound_address_goes_before_the_endpoint_s() -> None:
    (listener,) = await listening(LOCAL, SocketOptions(bind_host="127.0.0.2"))
    assert host_of(listener) == "127.0.0.2"


@in_trio
async def test_a_source_address_is_bound() -> None:
    dialled, accepted = await connected(SocketOptions(bind_host="127.0.0.3"))
    assert host_of(dialled) == "127.0.0.3"
    assert places.peer_of(accepted).startswith("127.0.0.3:")


@in_trio
async def test_the_bound_port_is_for_listening_so_that_several_connections_can_be_dialled() -> None:
    (listener,) = await listening()
    target = TcpEndpoint("127.0.0.1", port_of(listener))
    options = SocketOptions(bind_host="127.0.0.3", bind_port=port_of(listener))
    first, second = await places.dial(target, options), await places.dial(target, options)
    assert [host_of(first), host_of(second)] == ["127.0.0.3", "127.0.0.3"]
    assert len({port_of(first), port_of(second), port_of(listener)}) == 3


@in_trio
async def test_a_source_address_of_another_family_is_refused() -> None:
    (listener,) = await listening()
    target = TcpEndpoint("127.0.0.1", port_of(listener))
    assert "is of another family than the target's" in await failure(target, SocketOptions(bind_host="::1"))


@in_trio
async def test_a_source_address_of_one_family_reaches_a_name_with_both() -> None:
    trio.socket.set_custom_hostname_resolver(Names(both=("::1", "127.0.0.1"), **{"127.0.0.3": ("127.0.0.3",)}))
    (listener,) = await listening()
    stream = await places.dial(TcpEndpoint("both", port_of(listener)), SocketOptions(bind_host="127.0.0.3"))
    assert socket_of(stream).getpeername()[0] == "127.0.0.1"


@pytest.mark.parametrize("wanted", [True, False])
@in_trio
async def test_nagle_s_algorithm_is_off_unless_it_is_asked_for(wanted: bool) -> None:
    options = SocketOptions(no_delay=wanted)
    dialled, accepted = await connected(options, options)
    places.adjust(accepted, options)
    for stream in (dialled, accepted):
        assert bool(socket_of(stream).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == wanted


def keep_alive_of(stream: object) -> list[int]:
    wanted = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    )
    return [socket_of(stream).getsockopt(level, option) for level, option in wanted]


@pytest.mark.parametrize(
    ("options", "set_"),
    [
        (DEFAULT, [1, 60, 15, 4]),
        (SocketOptions(keep_idle=7, keep_interval=3, keep_count=2), [1, 7, 3, 2]),
        (SocketOptions(keep_alive=False), [0, 60, 15, 4]),
    ],
    ids=["default", "own times", "off"],
)
@in_trio
async def test_keep_alive_is_on_at_both_ends_unless_it_is_switched_off(options: SocketOptions, set_: list[int]) -> None:
    for stream in await connected(options, options):
        assert keep_alive_of(stream) == set_


@in_trio
async def test_a_connection_that_systemd_s_socket_accepted_is_kept_alive_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        (listener,) = places.adopt(SystemdEndpoint(""), [os.dup(passed.fileno())], DEFAULT)
        await places.dial(TcpEndpoint("127.0.0.1", passed.getsockname()[1]), DEFAULT)
        accepted = await listener.accept()
    places.adjust(accepted, DEFAULT)
    assert keep_alive_of(accepted) == [1, 60, 15, 4]
    await listener.aclose()


@in_trio
async def test_an_address_that_refuses_does_not_hide_the_next_one() -> None:
    (listener,) = await listening()
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.9", "127.0.0.1")))
    stream = await places.dial(TcpEndpoint("both", port_of(listener)), DEFAULT)
    assert socket_of(stream).getpeername()[0] == "127.0.0.1"


@in_trio
async def test_each_address_that_cannot_be_reached_is_named() -> None:
    (listener,) = await listening()
    port = port_of(listener)
    await listener.aclose()
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.9", "127.0.0.1")))
    said = await failure(TcpEndpoint("both", port))
    assert said == f"both:{port} can't be reached (127.0.0.9: connection refused; 127.0.0.1: connection refused)"


@in_trio
async def test_an_address_that_does_not_answer_has_its_time() -> None:
    with socket.socket() as full:  # whose queue takes one connection, and nobody accepts it
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        target = TcpEndpoint("127.0.0.1", full.getsockname()[1])
        with ExitStack() as waiting:
            for _ in range(3):
                waiting.enter_context(socket.socket()).setblocking(False)
            first = waiting.enter_context(socket.create_connection(full.getsockname()))
            assert first
            said = await failure(target, SocketOptions(connect_timeout=0.05))
    assert said == f"{target} can't be reached (127.0.0.1: no answer within 0.05 s)"


@in_trio
async def test_a_dial_is_repeated_as_often_as_was_asked_for() -> None:
    (listener,) = await listening()
    port = port_of(listener)
    await listener.aclose()
    options = SocketOptions(retry=Retry(attempts=100, interval=0.01))
    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            await (await places.dial(TcpEndpoint("127.0.0.1", port), options)).aclose()

        nursery.start_soon(dial)
        await trio.sleep(0.05)
        (late,) = await listening(TcpEndpoint("127.0.0.1", port))
        await late.accept()


@in_trio
async def test_a_name_that_is_unknown_is_named() -> None:
    assert "the name 'nowhere.invalid' can't be resolved" in await failure(TcpEndpoint("nowhere.invalid", 1))


@pytest.mark.parametrize("name", ["a..b", 70 * "a" + ".example", "ü" * 70])
@in_trio
async def test_a_name_that_cannot_be_one_is_named(name: str) -> None:
    assert f"the name {name!r} can't be resolved" in await failure(TcpEndpoint(name, 1))


@in_trio
async def test_only_addresses_of_the_allowed_networks_are_let_in() -> None:
    _, accepted = await connected()
    inside = SocketOptions(allowed_peers=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("127.0.0.0/30")))
    outside = SocketOptions(allowed_peers=(ipaddress.ip_network("127.0.0.2/32"), ipaddress.ip_network("::/0")))
    assert [places.is_allowed(accepted, options) for options in (DEFAULT, inside, outside)] == [True, True, False]


@in_trio
async def test_a_peer_that_has_gone_is_not_let_in() -> None:
    _, accepted = await connected()
    await accepted.aclose()
    assert not places.is_allowed(accepted, SocketOptions(allowed_peers=(ipaddress.ip_network("127.0.0.0/8"),)))
    assert places.peer_of(accepted) == "a peer that has gone"


@in_trio
async def test_an_aborted_connection_is_reset() -> None:
    dialled, accepted = await connected()
    await places.abort(accepted)
    with pytest.raises(trio.BrokenResourceError):
        await dialled.receive_some()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "endpoint",
    [TcpEndpoint("127.0.0.1", 1), UnixEndpoint("/nowhere"), ExecEndpoint(("cat",))],
    ids=["TCP", "Unix", "exec"],
)
@in_trio
async def test_a_host_without_file_descriptors_fails_one_connection_only(endpoint: Endpoint) -> None:
    with no_descriptor_left():
        said = await failure(endpoint)
    assert "too many open files" in said.lower()


@in_trio
async def test_a_program_that_finds_no_file_descriptor_left_is_named() -> None:
    with no_descriptor_left(), pytest.raises(TransportError, match="the program cat can't be started: Too many open"):
        await process.spawn(["cat"])


# Unix sockets.


@in_trio
async def test_a_unix_socket_is_its_user_s_alone_and_goes_with_its_listener(tmp_path: Path) -> None:
    endpoint = UnixEndpoint(str(tmp_path / "x.sock"))
    (listener,) = await places.open_listeners(endpoint, DEFAULT)
    assert (tmp_path / "x.sock").stat().st_mode & 0o777 == 0o600
    dialled = await places.dial(endpoint, DEFAULT)
    accepted = await listener.accept()
    await dialled.send_all(b"hello")
    assert await accepted.receive_some() == b"hello"
    assert places.peer_of(accepted) == "a local program"
    assert places.is_allowed(accepted, SocketOptions(allowed_peers=()))
    await listener.aclose()
    assert not os.listdir(tmp_path)  # noqa: PTH208 - in a coroutine of trio, nothing of pathlib may read


@in_trio
async def test_a_socket_that_nobody_listens_on_any_more_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = unix.open_listener(UnixEndpoint(str(path)), 5)
    await (await unix.dial(UnixEndpoint(str(path)), 5)).aclose()
    await listener.aclose()


@in_trio
async def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    endpoint = UnixEndpoint(str(tmp_path / "x.sock"))
    listener = unix.open_listener(endpoint, 5)
    with pytest.raises(TransportError, match="another program listens there") as caught:
        unix.open_listener(endpoint, 5)
    assert caught.value.port_taken
    await (await unix.dial(endpoint, 5)).aclose()
    await listener.aclose()


@in_trio
async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("precious")
    with pytest.raises(TransportError, match="a file that is no socket is in the way; remove it"):
        unix.open_listener(UnixEndpoint(str(path)), 5)
    assert path.read_text() == "precious"


@in_trio
async def test_a_socket_that_was_replaced_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    listener = unix.open_listener(UnixEndpoint(str(path)), 5)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        await listener.aclose()
        assert path.is_socket()


@in_trio
async def test_a_socket_whose_queue_is_full_is_no_connection_until_there_is_room(tmp_path: Path) -> None:
    endpoint = UnixEndpoint(str(tmp_path / "x.sock"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(endpoint.path)
        server.listen(0)
        await places.dial(endpoint, DEFAULT)  # the queue has room for one
        said = await failure(endpoint, SocketOptions(connect_timeout=0.1))
        assert said == f"{endpoint} can't be reached: its queue has been full for 0.1 s"
        async with trio.open_nursery() as nursery:

            async def make_room() -> None:
                await trio.sleep(0.1)
                server.accept()[0].close()

            nursery.start_soon(make_room)
            stream = await places.dial(endpoint, DEFAULT)
        await stream.send_all(b"hello")
        with server.accept()[0] as accepted:
            assert accepted.recv(10) == b"hello"
        await stream.aclose()


@in_trio
async def test_a_socket_whose_queue_is_full_is_no_dead_one(tmp_path: Path) -> None:
    endpoint = UnixEndpoint(str(tmp_path / "x.sock"))
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as waiting:
        server.bind(endpoint.path)
        server.listen(0)
        waiting.connect(endpoint.path)
        with pytest.raises(TransportError, match="another program listens there"):
            await places.open_listeners(endpoint, DEFAULT)


@in_trio
async def test_a_dead_socket_that_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    monkeypatch.setattr(Path, "unlink", refuse)  # as in another user's sticky directory
    with pytest.raises(TransportError, match=r"can't listen on unix:\S+: a dead socket .* removed: Operation not perm"):
        await places.open_listeners(UnixEndpoint(str(path)), DEFAULT)


@pytest.mark.parametrize(("name", "reason"), [("x.sock", "No such file"), ("deeper/x.sock", "No such file")])
@in_trio
async def test_a_socket_that_is_missing_is_named(name: str, reason: str, tmp_path: Path) -> None:
    said = await failure(UnixEndpoint(str(tmp_path / name)))
    assert re.search(rf"unix:\S+{name} can't be reached: {reason}", said)


@in_trio
async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"can't listen on unix:\S+: No such file or directory"):
        unix.open_listener(UnixEndpoint(str(tmp_path / "deeper" / "x.sock")), 5)


# Programs.


@in_trio
async def test_a_program_s_input_and_output_are_the_connection() -> None:
    stream = await process.spawn(["cat"])
    await stream.send_all(b"there and back")
    await stream.send_eof()
    assert await read_all(stream) == b"there and back"
    await stream.aclose()
    assert stream.process.returncode == 0


@in_trio
async def test_a_program_that_cannot_be_started_is_named() -> None:
    assert await failure(ExecEndpoint(("/nowhere/program", "x"))) == (
        "the program /nowhere/program can't be started: No such file or directory"
    )


@in_trio
async def test_an_end_of_file_for_a_program_that_has_ended_is_no_error() -> None:
    stream = await process.spawn(["true"])
    assert await read_all(stream) == b""
    await stream.process.wait()
    await stream.send_eof()
    await stream.aclose()


IGNORES = (
    "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(1, b'ready'); time.sleep(60)"
)


@pytest.mark.parametrize(
    ("program", "ended_by"),
    [
        (["sh", "-c", "echo ready; exec sleep 60"], signal.SIGTERM),
        ([sys.executable, "-c", IGNORES], signal.SIGKILL),
    ],
    ids=["asked", "killed"],
)
@in_trio
async def test_a_program_does_not_outlive_its_connection(
    program: list[str], ended_by: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.1)
    stream = await process.spawn(program)
    assert (await stream.receive_some()).startswith(b"ready")
    await stream.aclose()
    assert stream.process.returncode == -ended_by


@in_trio
async def test_what_a_program_started_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.1)
    stream = await process.spawn(["sh", "-c", "sleep 60 & echo $!; wait"])
    child = int(await stream.receive_some())
    await stream.aclose()
    assert stream.process.returncode == -signal.SIGTERM
    assert await trio.to_thread.run_sync(comes_true, lambda: not _lives(child), 5)


def _lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


@in_trio
async def test_cancelling_ends_a_program_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 10)
    stream = await process.spawn(["sleep", "60"])
    began = trio.current_time()
    await trio.aclose_forcefully(stream)
    assert stream.process.returncode == -signal.SIGTERM
    assert trio.current_time() - began < 5


# On SIGTERM it goes on for half a second; at an end of file it takes what it has for complete.
COMMITS = (
    "import os, pathlib, signal, sys; later = lambda *_: signal.setitimer(signal.ITIMER_REAL, 0.5);"
    "signal.signal(signal.SIGTERM, later); os.write(1, b'ready');"
    "sys.stdin.buffer.read(); pathlib.Path(sys.argv[1]).touch()"
)


@in_trio
async def test_a_program_sees_no_end_of_file_where_its_connection_is_aborted(tmp_path: Path) -> None:
    complete = tmp_path / "complete"
    stream = await process.spawn([sys.executable, "-S", "-c", COMMITS, str(complete)])
    assert await stream.receive_some() == b"ready"
    await stream.send_all(b"half of it")
    await places.abort(stream)
    assert stream.process.returncode == -signal.SIGALRM
    assert not complete.exists()


@in_trio
async def test_a_program_that_does_not_end_when_its_connection_is_aborted_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.1)
    stream = await process.spawn([sys.executable, "-S", "-c", IGNORES])
    assert await stream.receive_some() == b"ready"
    await places.abort(stream)
    assert stream.process.returncode == -signal.SIGKILL
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


# One connection that is there already.


@in_trio
async def test_the_one_connection_is_accepted_once() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    listener = OneConnection(theirs)
    assert await listener.accept() is theirs
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    await listener.aclose()
    await theirs.send_all(b"still open")
    assert await ours.receive_some() == b"still open"


@in_trio
async def test_the_one_connection_is_closed_with_a_listener_that_nobody_asked() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await OneConnection(theirs).aclose()
    assert await ours.receive_some() == b""


@pytest.fixture
def own_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input and output with file descriptors, which pytest's have not."""
    with Path(os.devnull).open("r+") as file:
        monkeypatch.setattr(sys, "stdin", file)
        monkeypatch.setattr(sys, "stdout", file)
        yield


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize(("name", "what"), [("stdin", "standard input"), ("stdout", "standard output")])
@in_trio
async def test_standard_input_or_output_that_is_closed_is_named(
    name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, name, None)
    assert f"{what} is closed" in await failure(StdioEndpoint())
    with pytest.raises(TransportError, match=f"{what} is closed"):
        await places.open_listeners(StdioEndpoint(), DEFAULT)


@in_trio
async def test_a_program_as_the_source_is_one_connection() -> None:
    (listener,) = await places.open_listeners(ExecEndpoint(("cat",)), DEFAULT)
    stream = await listener.accept()
    assert re.fullmatch(r"process \d+", places.peer_of(stream))
    await stream.aclose()


def test_every_kind_of_place_is_covered() -> None:
    elsewhere = {WebSocketEndpoint, SystemdEndpoint}  # tests/unit/test_websocket.py, test_systemd.py
    assert set(Endpoint.__args__) == {TcpEndpoint, UnixEndpoint, ExecEndpoint, StdioEndpoint} | elsewhere
