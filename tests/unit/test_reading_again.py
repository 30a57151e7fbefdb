"""Certificates that are read again: whatever the files hold, it ends nothing, and what failed is tried again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from OpenSSL import SSL, crypto

from lab.certificates import self_signed
from pytunnel.service import renewal
from pytunnel.service.renewal import Renewal, load
from pytunnel.system.pathwatch import PathWatch
from pytunnel.tls.credentials import Credentials, load_credentials
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.settings import TlsSettings
from tests.support.concurrency import LIMIT, in_trio
from tests.support.credentials import settings_of

NODE = self_signed("node1.my.cluster")
A_MINUTE = 60.0


@pytest.fixture
def wanted(tmp_path: Path) -> TlsSettings:
    return settings_of(tmp_path / "node1", NODE, [NODE])


class Holding:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.taken = 0
        self.kept = 0

    def take(self, credentials: Credentials, context: SSL.Context) -> None:
        self.taken += 1

    def keep(self) -> None:
        self.kept += 1


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), ValueError("InvalidData"), crypto.Error([("", "", "too long")])]
)
def test_whatever_reading_comes_to_is_one_kind_of_error(
    wanted: TlsSettings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(settings: TlsSettings) -> Credentials:
        raise error

    monkeypatch.setattr(renewal, "load_credentials", fail)
    with pytest.raises(CredentialsError, match="the certificates' files can't be used"):
        load(wanted)


def test_a_read_that_is_refused_after_the_file_was_opened_is_told_as_any_other(
    wanted: TlsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(settings: TlsSettings) -> Credentials:
        raise CredentialsError("the key file can't be read") from PermissionError(13, "Permission denied")

    monkeypatch.setattr(renewal, "load_credentials", fail)
    with pytest.raises(CredentialsError, match="the key file can't be read"):
        load(wanted)


@in_trio
async def test_files_that_can_not_be_looked_at_do_not_end_who_reads_them_again(
    wanted: TlsSettings, caplog: pytest.LogCaptureFixture
) -> None:
    holding = Holding()
    await Renewal(replace(wanted, ca=Path("a" * 300))).renew(holding)
    assert (holding.taken, holding.kept) == (0, 1)
    assert "File name too long" in caplog.text


@in_trio
async def test_a_file_system_that_hangs_keeps_one_thread_however_often_it_is_tried(
    wanted: TlsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding, again, good = Holding(), Renewal(wanted), load
    awake = threading.Event()
    readings: list[TlsSettings] = []

    def hang(settings: TlsSettings) -> tuple[Credentials, SSL.Context]:
        readings.append(settings)
        awake.wait(LIMIT)
        return good(settings)

    monkeypatch.setattr(renewal, "load", hang)
    monkeypatch.setattr(renewal, "_READING_LIMIT", 0.05)
    for _ in range(3):
        await again.renew(holding)
    assert (len(readings), holding.kept) == (1, 3)
    awake.set()
    monkeypatch.setattr(renewal, "_READING_LIMIT", LIMIT)
    await again.renew(holding)
    assert holding.taken == 1


def on_a_clock_that_is_put_forward(test: Callable[[trio.testing.MockClock], Awaitable[None]]) -> None:
    """Run a test whose minutes pass when it says so."""
    clock = trio.testing.MockClock()
    trio.run(test, clock, clock=clock)


async def comes(condition: Callable[[], bool]) -> None:
    """Let threads do their work, by the real clock, until the condition holds."""
    limit = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < limit
        await trio.to_thread.run_sync(time.sleep, 0.005)


def test_a_reading_that_failed_is_repeated_after_a_minute(
    wanted: TlsSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    holding, good = Holding(), load_credentials
    tries: list[TlsSettings] = []

    def fail(settings: TlsSettings) -> Credentials:
        tries.append(settings)
        raise OSError(5, "Input/output error")

    async def test(clock: trio.testing.MockClock) -> None:
        again = Renewal(wanted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.run, holding)
            monkeypatch.setattr(renewal, "load_credentials", fail)
            await again.renew(holding)
            failed = len(tries)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(A_MINUTE)
            await comes(lambda: len(tries) > failed)
            await again.renew(holding, repeated=True)  # begins when that one is over, whose limit must not pass
            await trio.testing.wait_all_tasks_blocked()
            monkeypatch.setattr(renewal, "load_credentials", good)
            clock.jump(A_MINUTE)
            await comes(lambda: holding.taken == 1)
            nursery.cancel_scope.cancel()

    on_a_clock_that_is_put_forward(test)
    assert holding.kept == 1
    assert caplog.text.count("NOT renewed") == 1  # the same words every minute would fill the log


def test_a_watch_that_could_not_be_had_is_tried_again_after_a_minute(
    wanted: TlsSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    holding, good = Holding(), PathWatch

    def fail(paths: object) -> None:
        raise OSError(24, "Too many open files")

    async def test(clock: trio.testing.MockClock) -> None:
        monkeypatch.setattr(renewal, "PathWatch", fail)
        again = Renewal(wanted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.run, holding)
            for _ in range(2):
                await trio.testing.wait_all_tasks_blocked()
                clock.jump(A_MINUTE)
            await trio.testing.wait_all_tasks_blocked()
            assert holding.taken == 0
            monkeypatch.setattr(renewal, "PathWatch", good)
            clock.jump(A_MINUTE)
            await comes(lambda: holding.taken == 1)
            nursery.cancel_scope.cancel()

    caplog.set_level(logging.WARNING)
    on_a_clock_that_is_put_forward(test)
    assert caplog.text.count("Too many open files") == 1
