"""Run a test that is a coroutine, with a limit that no test may exceed."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import trio
import trio.testing

P = ParamSpec("P")

LIMIT = 20.0
"""Seconds after which a test that hangs fails."""

_JUMPING_LIMIT = 3600.0  # of a clock that jumps: a test that hangs fails at once


def in_trio(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Let trio run the test, on the real clock: for tests with sockets, files and programs."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        trio.run(_limited(LIMIT, test, *args, **kwargs))

    return run


def in_trio_without_waiting(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Let trio run the test on a clock that jumps to the next deadline when nothing else is left to do.

    Limits of minutes then pass at once, and a test that hangs fails at once. Only for streams in memory,
    and for what the kernel tells in the moment when it happens.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(_limited(_JUMPING_LIMIT, test, *args, **kwargs), clock=clock)

    return run


def _limited(
    limit: float, test: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs
) -> Callable[[], Awaitable[None]]:
    async def limited() -> None:
        with trio.fail_after(limit):
            await test(*args, **kwargs)

    return limited
