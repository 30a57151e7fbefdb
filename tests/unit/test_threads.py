"""No worker thread from before the confinement runs anything after it."""

from __future__ import annotations

import threading

import trio

from pytunnel.confinement.threads import retire_threads


async def threads_used(count: int) -> set[int]:
    """The threads that so many calls at once use."""
    used: set[int] = set()
    barrier = threading.Barrier(count)

    def call() -> None:
        barrier.wait(10)
        used.add(threading.get_native_id())

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(trio.to_thread.run_sync, call)
    return used


def test_a_retired_thread_is_used_no_more() -> None:
    async def compare() -> tuple[set[int], int]:
        before = await threads_used(3)
        await retire_threads()
        return before, next(iter(await threads_used(1)))

    before, after = trio.run(compare)
    assert len(before) == 3
    assert after not in before
