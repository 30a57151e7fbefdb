"""Copying both ways between two streams in memory: ends of file, errors, limits, counters."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import lockstep_stream_pair, memory_stream_pair

from pytunnel.tls.errors import TlsError, TruncatedStream
from pytunnel.tunnel.relay import ConnectionFailed, Traffic, relay
from tests.support.concurrency import in_trio_without_waiting
from tests.support.reading import read_all

Duplex = trio.abc.HalfCloseableStream


@dataclass(slots=True)
class Line:
    """A relay between two streams: `here` and `there` are what is at the ends of it."""

    near: Duplex
    far: Duplex
    here: Duplex
    there: Duplex
    traffic: Traffic

    async def run(self, idle_limit: float | None = None, mute_limit: float | None = None) -> None:
        await relay(self.near, self.far, self.traffic, idle_limit=idle_limit, mute_limit=mute_limit)


def memory_line() -> Line:
    here, near = memory_stream_pair()
    far, there = memory_stream_pair()
    return Line(near, far, here, there, Traffic())


def lockstep_line() -> Line:
    here, near = lockstep_stream_pair()
    far, there = lockstep_stream_pair()
    return Line(near, far, here, there, Traffic())


async def failure_of(line: Line, idle_limit: float | None = None, mute_limit: float | None = None) -> str:
    with pytest.raises(ConnectionFailed) as caught:
        await line.run(idle_limit, mute_limit)
    return str(caught.value)


class Broken(trio.abc.HalfCloseableStream):
    """A stream that takes nothing any more; `says` is what it had said before, an error at the end of it."""

    def __init__(self, *says: bytes | Exception, silence: float = 0) -> None:
        self.says = list(says)
        self.silence = silence

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep(self.silence)
        said = self.says.pop(0) if self.says else b""
        if isinstance(said, Exception):
            raise said
        return said

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError("pipe") from BrokenPipeError(32, "Broken pipe")

    async def send_eof(self) -> None:
        await self.send_all(b"")

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


# What arrives.


@in_trio_without_waiting
async def test_an_end_of_file_is_passed_on_and_the_other_way_goes_on() -> None:
    for turned in (False, True):
        line = memory_line()
        asker, answerer = (line.there, line.here) if turned else (line.here, line.there)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            await asker.send_all(b"question")
            await asker.send_eof()
            assert await read_all(answerer) == b"question"
            await answerer.send_all(b"answer")
            await answerer.send_eof()
            assert await read_all(asker) == b"answer"


@in_trio_without_waiting
async def test_a_server_may_speak_first() -> None:
    line = memory_line()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.run)
        await line.there.send_all(b"greeting")
        assert await line.here.receive_some() == b"greeting"
        await line.here.send_eof()
        await line.there.send_eof()


@in_trio_without_waiting
async def test_neither_stream_is_closed() -> None:
    line = memory_line()
    await line.here.send_eof()
    await line.there.send_eof()
    await line.run()
    with pytest.raises(trio.ClosedResourceError):  # its sending side was ended, its receiving side is still open
        await line.near.send_all(b"x")
    assert await line.near.receive_some() == b""


@in_trio_without_waiting
async def test_bytes_are_counted_each_way() -> None:
    line = memory_line()
    await line.here.send_all(bytes(1000))
    await line.here.send_eof()
    await line.there.send_all(bytes(30))
    await line.there.send_eof()
    await line.run()
    assert (line.traffic.outward, line.traffic.inward) == (1000, 30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.binary(max_size=300), max_size=8), st.booleans())
@in_trio_without_waiting
async def test_any_data_arrives_both_ways(up: Sequence[bytes], down: Sequence[bytes], lockstep: bool) -> None:
    line = lockstep_line() if lockstep else memory_line()
    received: list[bytes] = [b"", b""]

    async def send(stream: Duplex, content: Sequence[bytes]) -> None:
        for data in content:
            await stream.send_all(data)
        await stream.send_eof()

    async def receive(index: int, stream: Duplex) -> None:
        received[index] = await read_all(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.run)
        nursery.start_soon(send, line.here, up)
        nursery.start_soon(send, line.there, down)
        nursery.start_soon(receive, 0, line.there)
        nursery.start_soon(receive, 1, line.here)
    assert received == [b"".join(up), b"".join(down)]


@in_trio_without_waiting
async def test_a_reader_that_waits_makes_its_writer_wait() -> None:
    line = lockstep_line()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while True:
            await line.here.send_all(bytes(100_000))
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.run)
        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked()
        assert sent <= 2
        nursery.cancel_scope.cancel()


# Errors.


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TlsError("the certificate is bad"), "the certificate is bad"),
        (TruncatedStream("cut"), "cut"),
        (trio.BrokenResourceError("x"), "the side that was dialled broke the connection off (x)"),
        (trio.ClosedResourceError("closed"), "the side that was dialled broke the connection off (closed)"),
    ],
)
@in_trio_without_waiting
async def test_an_error_when_reading_ends_both_ways(error: Exception, said: str) -> None:
    line = memory_line()
    line.far = Broken(error)
    assert await failure_of(line) == said


@in_trio_without_waiting
async def test_the_system_s_reason_is_told() -> None:
    reset = trio.BrokenResourceError("socket")
    reset.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    line = memory_line()
    line.far = Broken(reset)
    assert await failure_of(line) == "the side that was dialled broke the connection off (Connection reset by peer)"


@in_trio_without_waiting
async def test_what_a_side_said_before_it_broke_still_arrives() -> None:
    line = memory_line()
    line.far = Broken(b"too many ", b"connections")
    await line.here.send_all(b"hello")
    assert await failure_of(line) == "the side that was dialled broke the connection off (Broken pipe)"
    assert await line.here.receive_some() == b"too many connections"


@in_trio_without_waiting
async def test_the_reason_that_a_broken_side_gives_goes_before_the_break_itself() -> None:
    line = memory_line()
    line.far = Broken(TlsError("it did not accept our certificate"), silence=0.5)
    await line.here.send_all(b"hello")
    assert await failure_of(line) == "it did not accept our certificate"


@in_trio_without_waiting
async def test_a_broken_side_that_says_nothing_is_not_waited_for() -> None:
    line = memory_line()
    line.far = Broken(b"", silence=1000)
    await line.here.send_all(b"hello")
    began = trio.current_time()
    assert await failure_of(line) == "the side that was dialled broke the connection off (Broken pipe)"
    assert trio.current_time() - began == pytest.approx(1.0)


@in_trio_without_waiting
async def test_an_end_of_file_that_cannot_be_passed_on_is_an_error() -> None:
    line = memory_line()
    line.far = Broken()
    await line.here.send_eof()
    assert "Broken pipe" in await failure_of(line)


@in_trio_without_waiting
async def test_a_side_without_half_close_is_closed_at_the_end_of_file() -> None:
    sending, receiving = trio.testing.memory_stream_one_way_pair()

    class Whole(trio.abc.Stream):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            return b""

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await sending.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await sending.wait_send_all_might_not_block()

        async def aclose(self) -> None:
            await sending.aclose()

    here, near = memory_stream_pair()
    await here.send_all(b"all of it")
    await here.send_eof()
    await relay(near, Whole(), Traffic())
    assert await read_all(receiving) == b"all of it"


# The idle limit.


@in_trio_without_waiting
async def test_a_connection_without_a_byte_for_long_is_ended() -> None:
    began = trio.current_time()
    assert await failure_of(memory_line(), idle_limit=60) == "no byte either way for 60 s"
    assert trio.current_time() - began == pytest.approx(60)


@pytest.mark.parametrize(("idle_limit", "mute_limit"), [(60, None), (None, 60)])
@in_trio_without_waiting
async def test_the_time_that_a_connection_took_to_be_made_is_not_silence(
    idle_limit: float | None, mute_limit: float | None
) -> None:
    line = memory_line()
    await trio.sleep(100)  # dialled, with retries
    began = trio.current_time()
    await failure_of(line, idle_limit, mute_limit)
    assert trio.current_time() - began == pytest.approx(60)


@pytest.mark.parametrize("outward", [True, False])
@in_trio_without_waiting
async def test_a_byte_either_way_keeps_a_connection(outward: bool) -> None:
    line = memory_line()
    began = trio.current_time()

    async def speak() -> None:
        for _ in range(3):
            await trio.sleep(50)
            await (line.here if outward else line.there).send_all(b".")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        await failure_of(line, idle_limit=60)
    assert trio.current_time() - began == pytest.approx(3 * 50 + 60)


@in_trio_without_waiting
async def test_a_connection_that_has_ended_does_not_wait_for_the_limit() -> None:
    line = memory_line()
    await line.here.send_eof()
    await line.there.send_eof()
    began = trio.current_time()
    await line.run(idle_limit=60)
    assert trio.current_time() == began


@in_trio_without_waiting
async def test_the_limit_holds_after_one_way_has_ended() -> None:
    line = memory_line()
    await line.here.send_eof()
    assert await failure_of(line, idle_limit=60) == "no byte either way for 60 s"


@pytest.mark.parametrize(("outward", "mute"), [(True, "was dialled"), (False, "dialled")])
@in_trio_without_waiting
async def test_who_speaks_to_one_that_is_mute_has_no_connection_either(outward: bool, mute: str) -> None:
    line = memory_line()

    async def speak() -> None:
        while True:
            await trio.sleep(20)
            await (line.here if outward else line.there).send_all(b".")

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        assert await failure_of(line, mute_limit=90) == f"no byte from the side that {mute} for 90 s"
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(90)


@in_trio_without_waiting
async def test_who_has_said_end_of_file_is_not_mute() -> None:
    line = memory_line()

    async def speak() -> None:
        for _ in range(10):
            await trio.sleep(20)
            await line.there.send_all(b".")
        await line.there.send_eof()

    await line.here.send_eof()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        await line.run(mute_limit=90)
    assert line.traffic.inward == 10


@in_trio_without_waiting
async def test_much_data_is_the_same_at_the_other_end() -> None:
    line = memory_line()
    content = random.Random(1).randbytes(3_000_000)  # noqa: S311 - data to move, not to hide
    await line.here.send_all(content)
    await line.here.send_eof()
    await line.there.send_eof()
    await line.run()
    assert await read_all(line.there) == content


class Speaker(Broken):
    """A stream that says its words and then is silent."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self.says:
            await trio.sleep_forever()
        return await super().receive_some(max_bytes)


async def keep_references(data: bytes) -> int:
    """How many references to `data` there are while a relay that has carried it waits for more."""
    far, there = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay, Speaker(data), far, Traffic())
        await there.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        references = sys.getrefcount(data)
        nursery.cancel_scope.cancel()
    return references


def test_an_idle_connection_keeps_nothing_of_what_it_has_carried() -> None:
    data = b"said" * 1000
    alone = sys.getrefcount(data)
    assert trio.run(keep_references, data) <= alone + 2  # the two parameters that the test itself passes it by
