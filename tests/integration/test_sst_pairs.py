"""The connection between the joiner and its rsync: a network of its own where the system permits it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from lab.certificates import self_signed
from lab.waiting import until
from pytunnel.sst.pairs import pairs
from tests.support.concurrency import in_trio
from tests.support.measuring import children
from tests.support.programs import needs
from tests.support.sst import LIMIT, PlayedServer, Run, refused

LOCALHOST = self_signed("localhost")


def makes_namespaces() -> bool:
    """Whether the system permits network namespaces to this user."""
    program = shutil.which("unshare")
    return program is not None and subprocess.run([program, "-Urn", "true"], check=False, timeout=LIMIT).returncode == 0


only_with_namespaces = pytest.mark.skipif(
    not makes_namespaces(), reason="this system permits no user namespaces; sysctl kernel.unprivileged_userns_clone=1"
)


@only_with_namespaces
@in_trio
async def test_both_ends_are_connected_by_tcp() -> None:
    async with pairs() as connections:
        for _ in range(3):
            ours, theirs = await connections.make()
            with ours, theirs:
                assert ours.family == theirs.family == socket.AF_INET
                assert ours.getpeername() == theirs.getsockname()
                ours.sendall(b"there")
                assert theirs.recv(100) == b"there"
                theirs.sendall(b"back")
                assert ours.recv(100) == b"back"


def programs_of(pid: int) -> list[int]:
    """The programs that make pairs for a process."""
    found = []
    for child in children(pid):
        with suppress(OSError):  # another one has just ended
            if b"loopback.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def connections_of_the_host() -> set[int]:
    """The inodes of all its TCP sockets."""
    return {int(line.split()[9]) for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}


@only_with_namespaces
@in_trio
async def test_the_host_has_no_such_port_and_no_such_connection() -> None:
    async with pairs() as connections:
        ours, theirs = await connections.make()
        with ours, theirs:
            for port in (ours.getsockname()[1], theirs.getsockname()[1]):
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), LIMIT)
            inodes = {os.fstat(end.fileno()).st_ino for end in (ours, theirs)}
            assert not inodes & connections_of_the_host()


@only_with_namespaces
@in_trio
async def test_many_who_ask_at_once_get_one_each() -> None:
    made = []
    async with pairs() as connections:

        async def ask() -> None:
            made.append(await connections.make())

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
    assert len({ours.getsockname() for ours, _ in made}) == 20
    for ends in made:
        for end in ends:
            end.close()


@only_with_namespaces
@in_trio
async def test_where_their_program_was_killed_pairs_are_unix_sockets() -> None:
    async with pairs() as connections:
        for end in await connections.make():  # so that it has started
            end.close()
        (program,) = programs_of(os.getpid())
        os.kill(program, signal.SIGKILL)
        ours, theirs = await connections.make()
        with ours, theirs:
            assert ours.family == socket.AF_UNIX


@only_with_namespaces
@in_trio
async def test_their_program_ends_with_the_block() -> None:
    async with pairs() as connections:
        for end in await connections.make():
            end.close()
        assert programs_of(os.getpid())
    assert not programs_of(os.getpid())


def node(root: Path, *prefix: str) -> PlayedServer:
    """A node that trusts every other one."""
    return PlayedServer(root, prefix=prefix).use(LOCALHOST, [LOCALHOST])


def joiner_that_was_asked(tmp_path: Path, *prefix: str) -> Run:
    """A joiner that has ended after a donor's first questions, whose tables could not be flushed."""
    joining = node(tmp_path / "joiner", *prefix).start_joiner()
    donating = node(tmp_path / "donor").start_donor(joining.ready())
    donating.expect("flush tables")
    (donating.server.datadir / "sst_error").touch()
    assert donating.end() != 0
    assert joining.end() != 0
    return joining


@only_with_namespaces
@needs("rsync", "my_print_defaults")
def test_a_transfer_uses_them(tmp_path: Path) -> None:
    joining = joiner_that_was_asked(tmp_path)
    assert "no network namespace" not in joining.log


@needs("rsync", "my_print_defaults")
def test_where_the_system_refuses_the_log_says_why_there_are_none(tmp_path: Path) -> None:
    joining = joiner_that_was_asked(tmp_path, *refused("unshare", errno.EPERM))
    assert "no network namespace for rsync (Operation not permitted)" in joining.log


@only_with_namespaces
@needs("rsync", "my_print_defaults")
def test_their_program_ends_with_a_joiner_that_is_killed(tmp_path: Path) -> None:
    joining = node(tmp_path / "joiner").start_joiner()
    joining.ready()
    until(lambda: programs_of(joining.process.pid) != [], LIMIT, "the program's start")
    (program,) = programs_of(joining.process.pid)
    joining.process.kill()
    joining.end()
    until(lambda: not Path(f"/proc/{program}").exists(), LIMIT, "the program's end")
