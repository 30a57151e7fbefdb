"""How much of a process its status may take, whoever asks, and that nobody keeps a probe from its answer."""

from __future__ import annotations

import json
from collections import Counter

import trio
import trio.testing

from pytunnel.status.server import serve
from pytunnel.status.snapshot import Snapshot
from tests.support.concurrency import in_trio_without_waiting
from tests.support.tunnel_site import Door

COST = 0.01  # seconds
NOTHING = Snapshot("", 0, 0, ())
READY = b"HTTP/1.1 200 "


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
    found: dict[str, float] = json.loads((await get(door, "/status")).partition(b"\r\n\r\n")[2])
    return found


async def get(door: Door, path: str) -> bytes:
    """The whole answer; empty for a visitor who is sent away."""
    client = await door.knock()
    await client.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = b""
    while data := await client.receive_some():
        answer += data
    return answer


@in_trio_without_waiting
async def test_readiness_too_takes_a_tenth_of_the_time_however_many_ask() -> None:
    door = Door()
    taken = 0

    async def take() -> Snapshot:
        nonlocal taken
        taken += 1
        await trio.sleep(COST)
        return NOTHING

    async def visit_again_and_again() -> None:
        while True:
            assert (await get(door, "/readyz")).startswith(READY)
            await trio.sleep(COST)  # readiness is told at once

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [door], take)
        for _ in range(20):
            nursery.start_soon(visit_again_and_again)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert 18 <= taken <= 21


@in_trio_without_waiting
async def test_a_probe_does_not_wait_for_the_rest_after_others_were_told() -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [door], take_slowly)
        await status(door)
        asked = trio.current_time()
        assert (await get(door, "/readyz")).startswith(READY)
        assert trio.current_time() == asked
        nursery.cancel_scope.cancel()


@in_trio_without_waiting
async def test_readiness_is_never_older_than_half_a_second() -> None:
    door = Door()
    taken = 0

    async def take() -> Snapshot:
        nonlocal taken
        taken += 1
        return await take_slowly()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [door], take)
        for count in (1, 2, 3):
            await get(door, "/readyz")
            assert taken == count
            await trio.sleep(0.51)
        nursery.cancel_scope.cancel()


@in_trio_without_waiting
async def test_who_waits_for_an_answer_gets_it_whoever_comes_after() -> None:
    door = Door()
    answers: list[bytes] = []

    async def probe() -> None:
        answers.append(await get(door, "/readyz"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [door], take_slowly)
        async with trio.open_nursery() as probing:
            probing.start_soon(probe)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(200):
                await door.knock()
        nursery.cancel_scope.cancel()
    assert answers[0].startswith(READY)


@in_trio_without_waiting
async def test_too_many_who_ask_for_the_same_are_refused_and_keep_no_probe_from_its_answer() -> None:
    door = Door()
    answers: Counter[bytes] = Counter()

    async def visit() -> None:
        answers[(await get(door, "/status"))[:12]] += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [door], take_slowly)
        async with trio.open_nursery() as visiting:
            visiting.start_soon(visit)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(80):
                visiting.start_soon(visit)
            assert (await get(door, "/readyz")).startswith(READY)
        nursery.cancel_scope.cancel()
    assert answers == {b"HTTP/1.1 200": 1 + 64, b"HTTP/1.1 503": 80 - 64}


@in_trio_without_waiting
async def test_visitors_who_take_no_answer_keep_nobody_out() -> None:
    door = Door()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, [door], take_slowly)
        for _ in range(200):
            client = await door.knock(trio.testing.lockstep_stream_pair)
            await client.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with trio.fail_after(1):
            assert (await get(door, "/readyz")).startswith(READY)
        nursery.cancel_scope.cancel()


async def take_slowly() -> Snapshot:
    await trio.sleep(0.2)
    return NOTHING


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
