"""What the log says of a transfer."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from pytunnel.sst.manifest import Amount
from pytunnel.sst.plan import format_failure, format_plan, parse_failure, parse_plan
from pytunnel.sst.progress import Progress, describe, report, size
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.relay import Traffic

GIB = 1024**3


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (3 * GIB, "3.0 GiB"), (2048 * GIB, "2.0 TiB")],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_progress_tells_share_rate_and_time_left() -> None:
    assert describe("sent", GIB, Amount(4 * GIB, 9), GIB / 2) == "sent 1.0 GiB of 4.0 GiB (25%), 512.0 MiB/s, 6 s left"


def test_progress_without_a_total_tells_bytes_and_rate() -> None:
    assert describe("received", GIB, None, 1024) == "received 1.0 GiB so far, 1.0 KiB/s"


def test_a_transfer_that_stands_still_is_called_so() -> None:
    assert describe("sent", 1, Amount(10, 1), 0).endswith("standing still")


def test_more_than_everything_is_one_hundred_percent() -> None:
    assert "(100%)" in describe("sent", 11, Amount(10, 1), 1)


def test_bytes_of_all_connections_are_added() -> None:
    async def add() -> int:
        progress = Progress("sent")
        for outward in (3, 4):
            connection = Connection("a", "b", Traffic(outward=outward))
            progress.observe(connection)
            progress.observe(connection)
        return progress.moved

    assert trio.run(add) == 7


def test_a_line_comes_every_five_seconds_once_bytes_move() -> None:
    lines: list[str] = []

    async def follow() -> None:
        progress = Progress("sent", Amount(100, 1))
        traffic = Traffic()
        progress.observe(Connection("a", "b", traffic))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(report, progress, lines.append)
            await trio.sleep(11)
            traffic.outward = 50
            await trio.sleep(10)
            nursery.cancel_scope.cancel()

    trio.run(follow, clock=trio.testing.MockClock(autojump_threshold=0))
    assert lines == [
        "sent 50 bytes of 100 bytes (50%), 10 bytes/s, 5 s left",
        "sent 50 bytes of 100 bytes (50%), 0 bytes/s, standing still",
    ]


def test_a_plan_is_understood_as_it_was_written() -> None:
    assert parse_plan(format_plan(Amount(123, 4))) == Amount(123, 4)


@pytest.mark.parametrize(
    "text", ["", "bytes x\nfiles 1\n", "bytes 1\n", "\n\n", "bytes ²\nfiles 1", f"bytes {'9' * 5000}\nfiles 1"]
)
def test_a_plan_that_makes_no_sense_is_no_plan(text: str) -> None:
    assert parse_plan(text) is None


def test_a_failure_is_understood_as_it_was_written() -> None:
    assert parse_failure(format_failure("disk full")) == "disk full"


def test_what_could_forge_a_line_of_the_log_travels_escaped() -> None:
    assert parse_failure(format_failure("a\nb \x1b[31m ü")) == "a\\nb \\x1b[31m \\xfc"


def test_a_long_reason_is_cut_so_that_the_note_stays_small() -> None:
    assert len(parse_failure(format_failure("x" * 9000)) or "") == 1000


def test_a_joiner_that_knows_only_plans_takes_a_failure_for_no_plan() -> None:
    assert parse_plan(format_failure("bytes 1 files 2")) is None


@pytest.mark.parametrize("text", ["", "bytes 1\nfiles 1\n", "failed a\nfailed b\n", "failed \x1b[31m\n"])
def test_what_is_no_failure_is_none(text: str) -> None:
    assert parse_failure(text) is None
