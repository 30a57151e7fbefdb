"""How many lines of the log others can cause."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pytunnel.system.logs import JsonFormatter
from pytunnel.system.ration import PERIOD, LineRation
from tests.support.concurrency import in_trio_without_waiting

LINES = 10


def a_ration() -> LineRation:
    return LineRation(LINES, "connections failed before they were secured", "connections")


@in_trio_without_waiting
async def test_the_first_lines_of_a_period_are_written_and_no_more() -> None:
    ration = a_ration()
    assert [ration.take() for _ in range(LINES + 5)] == [True] * LINES + [False] * 5


@in_trio_without_waiting
async def test_the_next_period_has_lines_of_its_own() -> None:
    ration = a_ration()
    while ration.take():
        pass
    await trio.sleep(PERIOD - 1)
    assert not ration.take()
    await trio.sleep(1)
    assert [ration.take() for _ in range(LINES + 1)] == [True] * LINES + [False]


@in_trio_without_waiting
async def test_what_was_left_out_is_counted_when_its_period_is_over(caplog: pytest.LogCaptureFixture) -> None:
    ration = a_ration()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ration.report)
        for _ in range(LINES + 7):
            ration.take()
        await trio.sleep(PERIOD - 1)
        assert not caplog.messages
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    (record,) = caplog.records
    assert record.getMessage().startswith("7 more connections failed before they were secured")
    assert json.loads(JsonFormatter().format(record))["connections"] == 7


@in_trio_without_waiting
async def test_what_was_left_out_is_told_where_nobody_comes_any_more(caplog: pytest.LogCaptureFixture) -> None:
    ration = a_ration()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ration.report)
        await wait_all_tasks_blocked()  # as in a tunnel, which reports from its start on
        for _ in range(LINES + 7):
            ration.take()
        await trio.sleep(PERIOD + 1)
        assert [text.split()[0] for text in caplog.messages] == ["7"]
        for _ in range(LINES + 3):
            ration.take()
        await trio.sleep(PERIOD + 1)
        nursery.cancel_scope.cancel()
    assert [text.split()[0] for text in caplog.messages] == ["7", "3"]


@in_trio_without_waiting
async def test_each_that_was_left_out_is_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    ration = a_ration()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ration.report)
        for left_out in (3, 4):
            for _ in range(LINES + left_out):
                ration.take()
            await trio.sleep(PERIOD)
        ration.summarise()
        nursery.cancel_scope.cancel()
    assert [text.split()[0] for text in caplog.messages] == ["3", "4"]


@in_trio_without_waiting
async def test_nothing_is_said_where_nothing_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    ration = a_ration()
    for _ in range(LINES):
        ration.take()
    ration.summarise()
    await trio.sleep(PERIOD)
    assert ration.take()
    assert not caplog.messages
