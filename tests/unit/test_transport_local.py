"""How bytes reach places of this host: Unix sockets, programs, and our own standard input and output."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.stdio import OneConnection
from tests.support.concurrency import in_trio
from tests.support.reading import read_all
from tests.support.transports import (
    DEFAULT,
    failure,
)


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


@pytest.mark.parametrize(
    ("script", "failure"),
    [("echo half; exit 5", "exit code 5"), ("echo half; kill -9 $$", "SIGKILL")],
    ids=["status", "signal"],
)
@in_trio
async def test_the_end_of_file_of_a_program_that_failed_is_none(script: str, failure: str) -> None:
    stream = await places.dial(ExecEndpoint(("sh", "-c", script)), DEFAULT)
    assert await read_all(stream) == b"half\n"
    with pytest.raises(TransportError, match=f"the program sh ended with {failure}"):
        await places.confirm_end(stream)
    await stream.aclose()


@pytest.mark.parametrize("script", ["exit 0", "exec <&- >&-; sleep 60"], ids=["ends well", "says nothing more"])
@in_trio
async def test_the_end_of_file_of_a_program_that_has_not_failed_is_one(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.1)
    monkeypatch.setattr(process, "_ENDING", 0.1 if "sleep" in script else 10)
    stream = await places.dial(ExecEndpoint(("sh", "-c", script)), DEFAULT)
    assert await read_all(stream) == b""
    await places.confirm_end(stream)
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
