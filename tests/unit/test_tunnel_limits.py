"""What one tunnel allows: how many connections, for how long, and what it does when the system is short."""

from __future__ import annotations

import errno
import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pytunnel.tls.context import Side
from pytunnel.tls.errors import TlsError, TruncatedStream
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.errors import TransportError
from pytunnel.transport.places import Stream
from pytunnel.tunnel.connection import log_end
from pytunnel.tunnel.securing import TlsClient
from pytunnel.tunnel.tunnel import Limits, Tunnel
from tests.support.concurrency import in_trio_without_waiting
from tests.support.handshakes import ANYONE
from tests.support.tunnel_site import CLIENT, Door, Duplex, Site, finish

# Limits.


@in_trio_without_waiting
async def test_a_silent_peer_has_the_handshake_s_time_while_others_go_on() -> None:
    site = Site(limits=Limits(handshake=20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        silent = await site.door.knock()
        client = await site.call()
        began = trio.current_time()
        assert await silent.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(20)
        await client.send_all(b"still here")
        await wait_all_tasks_blocked()
        assert await site.dialled.popleft().receive_some() == b"still here"
        nursery.cancel_scope.cancel()
    assert "did not finish the TLS handshake within 20 s" in site.failures()[0]


@in_trio_without_waiting
async def test_a_peer_that_trickles_its_handshake_has_no_more_time() -> None:
    site = Site(limits=Limits(handshake=20))

    async def trickle(stream: Duplex) -> None:
        await stream.send_all(b"\x16\x03\x01\x02\x00")
        for _ in range(100):
            await trio.sleep(5)
            await stream.send_all(b"\x01")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        slow = await site.door.knock()
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await trickle(slow)
        assert trio.current_time() - began <= 25
        nursery.cancel_scope.cancel()


@in_trio_without_waiting
async def test_a_connection_too_many_is_refused_until_one_ends() -> None:
    site = Site(limits=Limits(connections=2))
    tunnel = site.tunnel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        first, _ = await site.call(), await site.call()
        await wait_all_tasks_blocked()
        with pytest.raises(TlsError, match=r"closed the connection during the TLS handshake|broke the connection off"):
            await site.call()
        assert tunnel.open == 2
        await finish(first, site.dialled.popleft())
        await wait_all_tasks_blocked()
        await site.call()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("shared", "said"),
    [(False, "as many as allowed"), (True, "as many as allowed to this worker, its share of --max-connections")],
)
def test_whose_limit_was_reached_is_told(shared: bool, said: str, caplog: pytest.LogCaptureFixture) -> None:
    @in_trio_without_waiting
    async def refuse() -> None:
        site = Site(limits=Limits(connections=1, shared=shared))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.tunnel().serve, [site.door])
            await site.call()
            await wait_all_tasks_blocked()
            await site.door.knock()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    refuse()
    assert f"standard input refused: 1 connections are open, {said}" in caplog.messages


@in_trio_without_waiting
async def test_a_silent_connection_makes_room_for_a_new_one_the_oldest_first() -> None:
    site = Site(limits=Limits(connections=3))
    tunnel = site.tunnel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tunnel.serve, [site.door])
        proven = await site.call()
        silent = await site.door.knock()
        await wait_all_tasks_blocked()
        waiting = TlsStream(await site.door.knock(), CLIENT, Side.CLIENT, place="the tunnel", expected=ANYONE)
        await wait_all_tasks_blocked()
        await site.call()
        assert await silent.receive_some() == b""
        await waiting.handshake()
        await wait_all_tasks_blocked()
        assert tunnel.open == 3
        await finish(proven, site.dialled.popleft())
        nursery.cancel_scope.cancel()
    assert site.failures() == [
        "standard input was dropped before it finished its TLS handshake: 3 connections were open"
    ]


@in_trio_without_waiting
async def test_no_number_of_silent_connections_locks_a_peer_out() -> None:
    site = Site(limits=Limits(connections=5))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        for _ in range(50):
            await site.door.knock()
        client = await site.call()
        await wait_all_tasks_blocked()
        await finish(client, site.dialled.popleft())
        nursery.cancel_scope.cancel()


@in_trio_without_waiting
async def test_a_connection_that_is_dialled_is_not_dropped_for_another() -> None:
    entrance = Door()

    async def dial() -> Stream:
        await trio.sleep(5)
        raise TransportError("nobody is there")

    client = TlsClient(CLIENT, ANYONE, "", 20)
    connecting = Tunnel(dial, "node1:4444", Limits(connections=1), client=client, observe=log_end)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connecting.serve, [entrance])
        began = trio.current_time()
        first, second = await entrance.knock(), await entrance.knock()
        assert await second.receive_some() == b""
        assert trio.current_time() == began
        assert await first.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(5)
        nursery.cancel_scope.cancel()


# Shortages.


@pytest.mark.parametrize("missing", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_a_shortage_is_one_line_however_long_it_lasts(missing: int, caplog: pytest.LogCaptureFixture) -> None:
    @in_trio_without_waiting
    async def suffer() -> None:
        site = Site()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.tunnel().serve, [site.door])
            client = await site.call()
            await wait_all_tasks_blocked()  # until the tunnel has finished the handshake too
            site.door.shortage = missing
            await site.door.knock()  # accepted: the listener was waiting for it
            await trio.sleep(5)
            await client.send_all(b"still there")
            assert await site.dialled[0].receive_some() == b"still there"
            site.door.shortage = None
            await site.call()
            nursery.cancel_scope.cancel()

    suffer()
    (line,) = [text for text in caplog.messages if "can be accepted" in text]
    assert line.startswith(f"no connection can be accepted now: {os.strerror(missing)}; ")


@in_trio_without_waiting
async def test_strangers_make_room_in_a_shortage_the_oldest_first() -> None:
    site = Site()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        strangers = [await site.door.knock() for _ in range(3)]
        await wait_all_tasks_blocked()
        site.door.shortage = errno.EMFILE
        strangers.append(await site.door.knock())
        await wait_all_tasks_blocked()
        for gone in strangers[:2]:
            assert await gone.receive_some() == b""
        for remaining in strangers[2:]:
            with trio.move_on_after(1) as waiting:
                await remaining.receive_some()
            assert waiting.cancelled_caught
        nursery.cancel_scope.cancel()


@in_trio_without_waiting
async def test_an_error_of_accept_that_is_no_shortage_ends_the_tunnel() -> None:
    site = Site()
    site.door.shortage = errno.EINVAL
    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        await site.tunnel().serve([site.door])
    assert site.door.closed


@in_trio_without_waiting
async def test_an_idle_connection_is_ended_and_another_goes_on() -> None:
    site = Site(limits=Limits(idle=60))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.tunnel().serve, [site.door])
        idle = await site.call()
        await trio.sleep(40)
        busy = await site.call()
        with pytest.raises(TruncatedStream):
            await idle.receive_some()
        await busy.send_all(b".")
        await wait_all_tasks_blocked()
        assert await site.dialled[1].receive_some() == b"."
        assert site.failures() == ["no byte either way for 60 s"]
        nursery.cancel_scope.cancel()
