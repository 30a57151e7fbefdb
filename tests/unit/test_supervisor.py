"""What a supervisor does with one worker: their conversation, in which a test plays the worker, and signals."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from pytunnel.service.workers.frames import receive_frame, send_frame
from pytunnel.service.workers.supervisor import Worker
from pytunnel.service.workers.worker import STATUS
from pytunnel.status.snapshot import Snapshot, to_json
from pytunnel.transport.sockets import SocketStream
from tests.support.concurrency import LIMIT, in_trio


@asynccontextmanager
async def worker() -> AsyncIterator[tuple[Worker, SocketStream]]:
    """A worker that a supervisor converses with, and its own end."""
    ours, theirs = (SocketStream(trio.socket.from_stdlib_socket(each)) for each in socket.socketpair())
    process = await trio.lowlevel.open_process(["true"])
    async with ours, theirs, trio.open_nursery() as nursery:
        supervised = Worker(process, ours)
        nursery.start_soon(supervised.converse)
        yield supervised, theirs
        nursery.cancel_scope.cancel()
    await process.wait()


def answer(number: int) -> bytes:
    return json.dumps(to_json(Snapshot("", number, 0, ()))).encode()


@in_trio
async def test_who_gives_up_waiting_takes_no_answer_from_the_next_one() -> None:
    async with worker() as (supervised, theirs):
        framed = len(answer(1)).to_bytes(4) + answer(1)
        async with trio.open_nursery() as impatient:
            impatient.start_soon(supervised.refresh)
            assert await receive_frame(theirs) == STATUS
            await theirs.send_all(framed[:10])
            await trio.testing.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        await theirs.send_all(framed[10:])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_once, theirs, 2)
            await supervised.refresh()
        assert supervised.last is not None
        assert supervised.last.taken == 2


async def answer_once(theirs: SocketStream, number: int) -> None:
    assert await receive_frame(theirs) == STATUS
    await send_frame(theirs, answer(number))


@in_trio
async def test_all_who_ask_at_once_have_one_answer() -> None:
    async with worker() as (supervised, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, theirs, 1)
        async with trio.open_nursery() as visitors:
            for _ in range(3):
                visitors.start_soon(supervised.refresh)
        assert supervised.last is not None
        assert supervised.last.taken == 1


@in_trio
async def test_a_worker_that_has_ended_is_not_waited_for() -> None:
    async with worker() as (supervised, theirs):
        await theirs.aclose()
        with trio.fail_after(LIMIT / 2):
            await supervised.refresh()
            await supervised.refresh()
        assert supervised.last is None


@in_trio
async def test_a_worker_that_is_late_is_as_it_was_and_a_probe_is_told_so_within_its_second() -> None:
    async with worker() as (supervised, theirs):
        await told_once(supervised, theirs)
        with trio.fail_after(0.9):
            await supervised.refresh()
        assert supervised.last is not None
        assert supervised.last.taken == 1
        assert supervised.serves


@in_trio
async def test_a_worker_that_is_late_already_is_not_waited_for_again() -> None:
    async with worker() as (supervised, theirs):
        await told_once(supervised, theirs)
        await supervised.refresh()
        late = trio.current_time()
        await supervised.refresh()
        assert trio.current_time() - late < 0.1


@in_trio
async def test_a_worker_that_owes_an_answer_for_long_serves_nobody_until_it_gives_it() -> None:
    async with worker() as (supervised, theirs):
        await told_once(supervised, theirs)
        await supervised.refresh()
        supervised.waiting_since -= 20
        assert not supervised.serves
        await answer_once(theirs, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert supervised.serves


async def told_once(supervised: Worker, theirs: SocketStream) -> None:
    """Let the worker answer one question."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, theirs, 1)
        await supervised.refresh()


@asynccontextmanager
async def signalled() -> AsyncIterator[Worker]:
    """A worker that has said nothing yet, and ends with the first signal that it is sent."""
    ours, theirs = socket.socketpair()
    process = await trio.lowlevel.open_process(["sleep", "1000"])
    with ours, theirs:
        yield Worker(process, SocketStream(trio.socket.from_stdlib_socket(ours)))
        process.kill()
        await process.wait()


@in_trio
async def test_sighup_reaches_a_worker_that_begins_once_it_accepts_and_no_earlier() -> None:
    async with signalled() as supervised:
        supervised.renew()
        with trio.move_on_after(0.1):
            await supervised.process.wait()
        assert supervised.process.returncode is None
        supervised.begin()
        assert await supervised.process.wait() == -signal.SIGHUP


@in_trio
async def test_a_worker_that_begins_is_not_told_to_read_again_what_nobody_changed() -> None:
    async with signalled() as supervised:
        supervised.begin()
        with trio.move_on_after(0.1):
            await supervised.process.wait()
        assert supervised.process.returncode is None
