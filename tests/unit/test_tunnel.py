"""The tunnel over streams in memory: one connection, from who is admitted to what is left of a failure."""

from __future__ import annotations

import errno
import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pytunnel.tls.context import Side
from pytunnel.tls.errors import TlsError, TruncatedStream
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.places import Stream
from pytunnel.tunnel.connection import Connection, log_end
from pytunnel.tunnel.securing import TlsClient, TlsServer
from pytunnel.tunnel.tunnel import Limits, Tunnel
from tests.support.concurrency import in_trio_without_waiting
from tests.support.handshakes import ANYONE
from tests.support.tunnel_site import CLIENT, SERVER, UNTRUSTED, Door, Site, finish


@in_trio_without_waiting
async def test_what_a_trusted_peer_sends_reaches_the_place_and_back() -> None:
    site = Site()
    tunnel = site.tunnel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        client = await site.call()
        await client.send_all(b"question")
        await wait_all_tasks_blocked()
        place = site.dialled.popleft()
        assert await place.receive_some() == b"question"
        await place.send_all(b"answer")
        assert await client.receive_some() == b"answer"
        await finish(client, place)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (ended,) = site.seen
    assert (ended.failure, ended.traffic.outward, ended.traffic.inward) == (None, 8, 6)
    assert ended.session is not None
    assert ended.session.peer_name == "CN=node2"
    assert (tunnel.open, tunnel.completed) == (0, 1)


@in_trio_without_waiting
async def test_an_observer_sees_a_connection_when_it_is_secured_and_when_it_ends() -> None:
    states: list[tuple[bool, bool]] = []
    site = Site()

    def observe(connection: Connection) -> None:
        states.append((connection.session is not None, connection.ended))

    tunnel = Tunnel(site.dial, "the place", Limits(), server=TlsServer(SERVER, ANYONE, 20), observe=observe)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        client = await site.call()
        await wait_all_tasks_blocked()
        assert states == [(True, False)]
        await finish(client, site.dialled.popleft())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert states == [(True, False), (True, True)]


@in_trio_without_waiting
async def test_two_tunnels_carry_a_plain_connection_to_a_plain_place() -> None:
    site = Site()
    entrance = Door()

    async def dial() -> Stream:
        return await site.door.knock()

    client = TlsClient(CLIENT, ExpectedPeer(("node1",)), "", 20)
    connecting = Tunnel(dial, "node1:4444", Limits(), client=client, observe=log_end)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        nursery.start_soon(connecting.serve, [entrance])
        here = await entrance.knock()
        await here.send_all(bytes(500_000))
        await here.send_eof()
        await wait_all_tasks_blocked()
        there = site.dialled.popleft()
        received = 0
        while data := await there.receive_some():
            received += len(data)
        await there.send_all(b"got it")
        await there.send_eof()
        assert await here.receive_some() == b"got it"
        assert await here.receive_some() == b""
        nursery.cancel_scope.cancel()
    assert received == 500_000


@in_trio_without_waiting
async def test_nothing_is_dialled_for_a_peer_that_is_not_trusted() -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        stranger = TlsStream(await site.door.knock(), UNTRUSTED, Side.CLIENT, place="the tunnel", expected=ANYONE)
        await stranger.handshake()
        with pytest.raises(TlsError, match="did not accept our certificate"):
            await stranger.receive_some()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not site.dialled
    (said,) = site.failures()
    assert "presented CN=stranger, which can't be trusted" in said


@in_trio_without_waiting
async def test_nothing_is_dialled_for_a_peer_with_another_name() -> None:
    site = Site(expected=ExpectedPeer(("node7",)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        client = await site.call()
        with pytest.raises(TlsError, match="perhaps its name"):
            await client.receive_some()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not site.dialled
    assert "presented CN=node2, expected node7" in site.failures()[0]


@in_trio_without_waiting
async def test_a_place_that_cannot_be_reached_is_no_end_of_file_for_the_peer() -> None:
    site = Site(refuses="the place can't be reached")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        client = await site.call()
        with pytest.raises(TruncatedStream):
            await client.receive_some()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert site.failures() == ["the place can't be reached"]


@in_trio_without_waiting
async def test_an_error_of_the_system_while_dialling_fails_that_connection_alone() -> None:
    site = Site()
    exhausted = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        site.breaks = exhausted
        unlucky = await site.call()
        with pytest.raises(TruncatedStream):
            await unlucky.receive_some()
        site.breaks = None
        client = await site.call()
        await wait_all_tasks_blocked()
        await finish(client, site.dialled.popleft())
        nursery.cancel_scope.cancel()
    assert site.failures() == ["standard input can't be carried to the place: Too many open files"]


@in_trio_without_waiting
async def test_a_connection_that_breaks_is_no_end_of_file_for_either_side() -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        client = await site.call()
        await client.send_all(b"half of it")
        await wait_all_tasks_blocked()
        await client.transport.aclose()
        place = site.dialled.popleft()
        assert await place.receive_some() == b"half of it"
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert "ended the connection without TLS's close_notify" in site.failures()[0]
