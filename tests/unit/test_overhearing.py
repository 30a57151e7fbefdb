"""What programs say on standard error, as events of the log: in turns, and within a ration."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from pytunnel.system.overhearing import overheard
from pytunnel.system.ration import PERIOD
from tests.support.concurrency import in_trio

MOST = 600


@contextmanager
def noise() -> Iterator[None]:
    """A program that says more than anybody can read, as long as it may."""
    process = os.posix_spawnp("yes", ["yes"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    try:
        yield
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if text.startswith("a program says: ")]


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pytunnel")


@in_trio
async def test_a_program_that_never_stops_leaves_others_their_turn_and_the_log_its_bounds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with overheard() as heard, noise():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(heard.follow)
            while len(said(caplog)) < MOST:  # noqa: ASYNC110 - a log tells nobody that it has grown
                await trio.sleep(0.01)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert len(said(caplog)) == MOST
    (summary,) = set(caplog.messages) - set(said(caplog))
    assert f"more lines were said by programs; only the first {MOST} in {PERIOD:g} s are named" in summary


@in_trio
async def test_the_end_does_not_wait_for_a_program_that_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with noise():
        with overheard():
            os.write(2, b"the last word\n")
        assert "a program says: the last word" in said(caplog)


@in_trio
async def test_a_line_that_is_too_long_becomes_several_and_one_without_an_end_is_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with overheard():
        os.write(2, b"a" * 10_000)
    assert sum(len(text.removeprefix("a program says: ")) for text in said(caplog)) == 10_000
    assert len(said(caplog)) > 1
