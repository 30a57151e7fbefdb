"""Retire the worker threads that are there: Landlock confines the calling thread and what it starts, not its siblings.

A program that an older thread starts would not be confined, and we could not even end it. trio keeps idle threads and
takes them before it starts new ones; those that are kept busy for ever it does not take.
"""

from __future__ import annotations

import threading
from functools import partial

import trio


async def retire_threads() -> None:
    """Keep all idle worker threads busy until the process ends, at no cost but their memory."""
    count = threading.active_count() - 1
    if not count:
        return
    all_begun, never = trio.Event(), threading.Event()
    begun: list[None] = []

    def note() -> None:
        begun.append(None)
        if len(begun) == count:
            all_begun.set()

    def stay() -> None:
        trio.from_thread.run_sync(note)
        never.wait()

    limiter = trio.CapacityLimiter(count)
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(partial(trio.to_thread.run_sync, stay, abandon_on_cancel=True, limiter=limiter))
        await all_begun.wait()
        nursery.cancel_scope.cancel()
