"""Whether the database server that runs us is still there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from pytunnel.sst import server
from pytunnel.sst.errors import SstError

SRC = Path(__file__).parents[2] / "src"
WATCH = """
import os, sys, trio
sys.path.insert(0, sys.argv[1])
from pytunnel.errors import PytunnelError
from pytunnel.sst import server
print("watching", flush=True)
try:
    trio.run(server.watch, os.getpid())
except* PytunnelError as group:
    print(group.exceptions, file=sys.stderr)
"""


def test_the_end_of_the_servers_process_is_noticed() -> None:
    async def watch(pid: int) -> None:
        with trio.fail_after(10):
            await server.watch(pid)

    with (
        subprocess.Popen([sys.executable, "-c", "pass"]) as other,
        pytest.RaisesGroup(pytest.RaisesExc(SstError, match="has gone"), flatten_subgroups=True),
    ):
        trio.run(watch, other.pid)


def test_a_server_that_ended_before_we_looked_is_noticed() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as other:
        pass
    with pytest.RaisesGroup(pytest.RaisesExc(SstError, match="has gone"), flatten_subgroups=True):
        trio.run(server.watch, other.pid)


@pytest.fixture(name="unwatchable", params=[errno.ENOSYS, errno.EPERM])
def fixture_unwatchable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A kernel or a container without pidfd_open."""

    def refuse(pid: int) -> int:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.mark.usefixtures("unwatchable")
def test_the_end_of_the_server_is_noticed_where_processes_cannot_be_watched() -> None:
    """It counts as ended also before its parent has asked for it."""

    async def end_it_meanwhile(other: subprocess.Popen[bytes]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.watch, other.pid)
            await trio.sleep(0.3)
            assert other.stdin is not None
            other.stdin.close()

    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as other,
        pytest.RaisesGroup(pytest.RaisesExc(SstError, match="has gone"), flatten_subgroups=True),
    ):
        trio.run(end_it_meanwhile, other)


@pytest.mark.usefixtures("unwatchable")
def test_a_server_that_had_ended_is_noticed_where_processes_cannot_be_watched() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as other:
        pass
    with pytest.RaisesGroup(pytest.RaisesExc(SstError, match="has gone"), flatten_subgroups=True):
        trio.run(server.watch, other.pid)


@pytest.mark.usefixtures("unwatchable")
def test_another_process_with_the_server_s_number_is_not_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = iter(["100", "100", "200"])
    monkeypatch.setattr(server, "_start_of", lambda _: next(starts))
    with pytest.RaisesGroup(pytest.RaisesExc(SstError, match="has gone"), flatten_subgroups=True):
        trio.run(server.watch, os.getpid(), clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_server_that_closes_our_output_is_noticed() -> None:
    command = [sys.executable, "-c", WATCH, str(SRC)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline() == b"watching\n"
        watching.stdout.close()
        assert b"has gone" in watching.stderr.read()
