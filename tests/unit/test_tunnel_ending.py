"""How a tunnel ends: drained, or with its one connection."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from pytunnel.tls.context import Side
from pytunnel.tls.errors import TruncatedStream
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.places import Stream
from pytunnel.transport.stdio import OneConnection
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.relay import Traffic
from pytunnel.tunnel.tunnel import Limits
from tests.support.concurrency import in_trio_without_waiting
from tests.support.handshakes import ANYONE
from tests.support.tunnel_site import CLIENT, UNTRUSTED, Duplex, Site, finish


@in_trio_without_waiting
async def test_draining_closes_the_listeners_and_lets_open_connections_end() -> None:
    site = Site(limits=Limits(drain=30))
    tunnel = site.tunnel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        client = await site.call()
        await wait_all_tasks_blocked()
        tunnel.drain()
        await wait_all_tasks_blocked()
        assert site.door.closed
        await trio.sleep(10)
        await client.send_all(b"last words")
        await wait_all_tasks_blocked()
        place = site.dialled.popleft()
        assert await place.receive_some() == b"last words"
        await finish(client, place)
        ended = trio.current_time()
    assert trio.current_time() == ended
    assert tunnel.completed == 1


@in_trio_without_waiting
async def test_draining_without_connections_ends_at_once() -> None:
    site = Site()
    tunnel = site.tunnel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        await wait_all_tasks_blocked()
        began = trio.current_time()
        tunnel.drain()
    assert trio.current_time() == began


@in_trio_without_waiting
async def test_draining_does_not_wait_for_who_has_not_finished_the_handshake() -> None:
    site = Site(limits=Limits(drain=30, handshake=20))
    tunnel = site.tunnel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        silent = await site.door.knock()
        await wait_all_tasks_blocked()
        began = trio.current_time()
        tunnel.drain()
        assert await silent.receive_some() == b""
    assert trio.current_time() == began
    assert site.failures() == ["standard input was dropped before it finished its TLS handshake: the tunnel is ending"]


@in_trio_without_waiting
async def test_a_connection_that_was_accepted_just_before_draining_is_dropped_too() -> None:
    site = Site(limits=Limits(drain=30, handshake=20))
    tunnel = site.tunnel()
    tunnel.drain()
    ours, theirs = memory_stream_pair()
    connection = Connection("a peer", "the place", Traffic())
    await tunnel.carry(theirs, connection)
    assert await ours.receive_some() == b""
    assert connection.failure == "a peer was dropped before it finished its TLS handshake: the tunnel is ending"


def test_draining_twice_is_draining_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @in_trio_without_waiting
    async def drain_twice() -> None:
        site = Site(limits=Limits(drain=30))
        tunnel = site.tunnel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tunnel.serve, [site.door])
            client = await site.call()
            await wait_all_tasks_blocked()
            tunnel.drain()
            tunnel.drain()
            await wait_all_tasks_blocked()
            await finish(client, site.dialled.popleft())

    drain_twice()
    assert [text for text in caplog.messages if "draining" in text] == [
        "draining: open connections (1) have 30 s to end"
    ]


@in_trio_without_waiting
async def test_a_drain_asked_for_before_the_start_is_not_forgotten() -> None:
    site = Site()
    tunnel = site.tunnel()
    tunnel.drain()
    await tunnel.serve([site.door])
    assert site.door.closed


async def _cut_after(site: Site, listener: trio.abc.Listener[Stream], client: Duplex) -> float:
    tunnel = site.tunnel()
    stream = TlsStream(client, CLIENT, Side.CLIENT, place="the tunnel", expected=ANYONE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [listener])
        await stream.handshake()
        await wait_all_tasks_blocked()
        began = trio.current_time()
        tunnel.drain()
        with pytest.raises(TruncatedStream):
            await stream.receive_some()
        return trio.current_time() - began
    raise AssertionError


@in_trio_without_waiting
async def test_a_connection_is_cut_off_when_draining_takes_too_long() -> None:
    site = Site(limits=Limits(drain=30))
    assert await _cut_after(site, site.door, await site.door.knock()) == pytest.approx(30)


@in_trio_without_waiting
async def test_the_one_connection_of_a_listener_is_cut_off_too() -> None:
    ours, theirs = memory_stream_pair()
    assert await _cut_after(Site(limits=Limits(drain=30)), OneConnection(theirs), ours) == pytest.approx(30)


def test_what_is_cut_off_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    test_a_connection_is_cut_off_when_draining_takes_too_long()
    assert "draining: open connections (1) have 30 s to end" in caplog.messages
    assert "the 30 s for draining are over: what was still open was cut off" in caplog.messages


@in_trio_without_waiting
async def test_the_tunnel_ends_with_the_one_connection_of_its_listener() -> None:
    site = Site()
    ours, theirs = memory_stream_pair()
    tunnel = site.tunnel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [OneConnection(theirs)])
        client = TlsStream(ours, CLIENT, Side.CLIENT, place="the tunnel", expected=ANYONE)
        await client.handshake()
        await wait_all_tasks_blocked()
        await finish(client, site.dialled.popleft())
    assert tunnel.completed == 1


@in_trio_without_waiting
async def test_a_place_for_one_connection_gets_one_and_then_the_door_closes() -> None:
    site = Site(once=True)
    tunnel = site.tunnel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        early = TlsStream(await site.door.knock(), CLIENT, Side.CLIENT, place="the tunnel", expected=ANYONE)
        await wait_all_tasks_blocked()
        client = await site.call()
        await wait_all_tasks_blocked()
        assert site.door.closed
        await early.handshake()
        with pytest.raises(TruncatedStream):
            await early.receive_some()
        await finish(client, site.dialled.popleft())
    assert site.failures() == ["the place serves one connection, and another one has it"]
    assert not site.dialled
    assert tunnel.completed == 1


@in_trio_without_waiting
async def test_a_peer_that_is_not_trusted_does_not_take_the_one_connection() -> None:
    site = Site(once=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        stranger = TlsStream(await site.door.knock(), UNTRUSTED, Side.CLIENT, place="the tunnel", expected=ANYONE)
        await stranger.handshake()
        await wait_all_tasks_blocked()
        client = await site.call()
        await wait_all_tasks_blocked()
        await finish(client, site.dialled.popleft())
