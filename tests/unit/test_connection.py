"""What is logged of a connection, and that strangers can not flood the log."""

from __future__ import annotations

import json
import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pytunnel.system.logs import JsonFormatter
from pytunnel.tunnel.connection import Connection, log_end
from pytunnel.tunnel.relay import Traffic
from pytunnel.tunnel.securing import TlsServer
from pytunnel.tunnel.tunnel import Limits, Tunnel
from tests.support.concurrency import in_trio_without_waiting
from tests.support.handshakes import ANYONE
from tests.support.tunnel_site import SERVER, Site, finish


def logged(caplog: pytest.LogCaptureFixture, connection: Connection) -> logging.LogRecord:
    with caplog.at_level(logging.INFO):
        log_end(connection)
    return caplog.records[-1]


@in_trio_without_waiting
async def test_a_connection_s_end_is_one_line_with_all_that_matters(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        client = await site.call()
        await client.send_all(bytes(10))
        await wait_all_tasks_blocked()
        await trio.sleep(2)
        await finish(client, site.dialled.popleft())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    record = logged(caplog, site.seen[-1])
    assert record.getMessage() == (
        "standard input -> the place ended: 10 bytes out, 0 in, 2.0 s, TLSv1.3 TLS_AES_128_GCM_SHA256 with CN=node2"
    )
    assert json.loads(JsonFormatter().format(record)) | {"time": "", "message": ""} == {
        "time": "",
        "level": "info",
        "message": "",
        "source": "standard input",
        "target": "the place",
        "bytes_out": 10,
        "bytes_in": 0,
        "seconds": 2.0,
        "tls": "TLSv1.3",
        "cipher": "TLS_AES_128_GCM_SHA256",
        "peer": "CN=node2",
    }


@in_trio_without_waiting
async def test_a_connection_s_failure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection("10.0.0.1:5000", "the place", Traffic(), failure="no byte", ended=True)
    record = logged(caplog, connection)
    assert (record.levelname, record.getMessage()) == ("WARNING", "10.0.0.1:5000 -> the place: no byte")
    assert json.loads(JsonFormatter().format(record))["error"] == "no byte"


@in_trio_without_waiting
async def test_the_only_connection_s_failure_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    log_end(
        Connection("standard input", "the place", Traffic(), failure="no byte", ended=True),
        failure_level=logging.ERROR,
    )
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "standard input -> the place: no byte")
    ]


@in_trio_without_waiting
async def test_nothing_is_logged_while_a_connection_lives(caplog: pytest.LogCaptureFixture) -> None:
    log_end(Connection("10.0.0.1:5000", "the place", Traffic()))
    assert not caplog.records


async def _fail_in_the_handshake(times: int, limits: Limits) -> None:
    """A tunnel that logs, and strangers that leave without a handshake or are refused; then a peer that is trusted."""
    site = Site()
    server = TlsServer(SERVER, ANYONE, limits.handshake)
    tunnel = Tunnel(site.dial, "the place", limits, server=server, observe=log_end)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        proven = [await site.call() for _ in range(limits.connections - 1)]
        for _ in range(times):
            await (await site.door.knock()).aclose()
            await wait_all_tasks_blocked()
        client = await site.call()
        await wait_all_tasks_blocked()
        for _ in range(times):
            await (await site.door.knock()).aclose()
            await wait_all_tasks_blocked()
        for each in (*proven, client):
            await finish(each, site.dialled.popleft())
        await wait_all_tasks_blocked()
        tunnel.drain()


def test_strangers_cannot_flood_the_log_and_each_of_them_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    in_trio_without_waiting(_fail_in_the_handshake)(50, Limits(connections=2))
    failed = [text for text in caplog.messages if "during the TLS handshake" in text or "refused" in text]
    assert len(failed) == 10
    assert [text for text in caplog.messages if "ended:" in text]
    assert caplog.messages[-1] == (
        "90 more connections failed before they were secured; only the first 10 in 60 s are named"
    )


def test_who_was_trusted_is_named_whatever_the_number_of_failures(caplog: pytest.LogCaptureFixture) -> None:
    @in_trio_without_waiting
    async def fail_often() -> None:
        refusing = Site(refuses="the place can't be reached")
        server = TlsServer(SERVER, ANYONE, 20)
        tunnel = Tunnel(refusing.dial, "the place", Limits(), server=server, observe=log_end)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tunnel.serve, [refusing.door])
            for _ in range(15):
                await refusing.call()
                await wait_all_tasks_blocked()
            tunnel.drain()

    fail_often()
    assert len(caplog.messages) == 15
