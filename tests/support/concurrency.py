"""Run a test that is a coroutine, with a limit that no test may exceed."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import trio
import trio.testing

P = ParamSpec("P")

LIMIT = 20.0
"""Seconds of the clock that the test runs on; a test that hangs fails after them."""


def in_trio(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Let trio run the test, on the real clock: for tests with sockets, files and programs."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        trio.run(_limited(test, *args, **kwargs))

    return run


def in_trio_without_waiting(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Let trio run the test on a clock that jumps to the next deadline when nothing else is left to do.

    Limits of minutes then pass at once, and a test that hangs fails at once. Only for streams in memory.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        trio.run(_limited(test, *args, **kwargs), clock=trio.testing.MockClock(autojump_threshold=0))

    return run


def _limited(test: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> Callable[[], Awaitable[None]]:
    async def limited() -> None:
        with trio.fail_after(LIMIT):
            await test(*args, **kwargs)

    return limited
