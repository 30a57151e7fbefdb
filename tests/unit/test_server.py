"""Whether the database server that runs us is still there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

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


def test_a_server_that_closes_our_output_is_noticed() -> None:
    command = [sys.executable, "-c", WATCH, str(SRC)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline() == b"watching\n"
        watching.stdout.close()
        assert b"has gone" in watching.stderr.read()
