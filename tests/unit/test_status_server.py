"""How much of a process its status may take, whoever asks."""

from __future__ import annotations

import json

import trio

from pytunnel.status.server import serve
from pytunnel.status.snapshot import Snapshot
from tests.support.concurrency import in_trio_without_waiting
from tests.support.tunnel_site import Door

COST = 0.01  # seconds


@in_trio_without_waiting
async def test_to_tell_takes_a_tenth_of_the_time_however_many_ask_and_each_is_told_how_it_is_now() -> None:
    door = Door()
    taken = 0

    async def take() -> Snapshot:
        nonlocal taken
        taken += 1
        moment = trio.current_time()
        await trio.sleep(COST)
        return Snapshot("", moment, 0, ())

    async def visit_again_and_again() -> None:
        while True:
            asked = trio.current_time()
            assert (await status(door))["taken"] >= asked

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [door], take)
        for _ in range(20):
            nursery.start_soon(visit_again_and_again)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert 90 <= taken <= 101


async def status(door: Door) -> dict[str, float]:
    client = await door.knock()
    await client.send_all(b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while data := await client.receive_some():
        answer += data
    found: dict[str, float] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


@in_trio_without_waiting
async def test_a_fault_in_telling_is_told_as_one_and_ends_nothing() -> None:
    door = Door()

    async def take() -> Snapshot:
        raise RuntimeError("a fault")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [door], take)
        for _ in range(2):
            client = await door.knock()
            await client.send_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.receive_some()).startswith(b"HTTP/1.1 500 ")
        nursery.cancel_scope.cancel()
