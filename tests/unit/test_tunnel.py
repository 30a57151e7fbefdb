"""The tunnel over streams in memory: who is admitted, for how long, and what is left of a failure."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections import deque
from dataclasses import dataclass, field, replace

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from lab.certificates import self_signed
from pytunnel.system.logs import JsonFormatter
from pytunnel.tls.context import Side
from pytunnel.tls.errors import TlsError, TruncatedStream
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.endpoint import TcpEndpoint, UnixEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.places import Stream
from pytunnel.transport.stdio import OneConnection
from pytunnel.tunnel.connection import Connection, log_end
from pytunnel.tunnel.relay import ConnectionFailed, Traffic
from pytunnel.tunnel.securing import TlsClient, TlsServer, make_client
from pytunnel.tunnel.tunnel import Limits, Tunnel
from tests.support.concurrency import in_trio_without_waiting
from tests.support.credentials import context_of
from tests.support.handshakes import ANYONE

NODE1, NODE2, STRANGER = self_signed("node1"), self_signed("node2"), self_signed("stranger")
BOTH = (NODE1, NODE2)
SERVER, CLIENT = context_of(NODE1, BOTH), context_of(NODE2, BOTH)
UNTRUSTED = context_of(STRANGER, BOTH)

Duplex = trio.abc.HalfCloseableStream


class Door(trio.abc.Listener[Stream]):
    """A listener in memory."""

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[Stream](100)
        self.closed = False
        self.shortage: int | None = None

    async def knock(self) -> Duplex:
        """Connect to the listener; returns the caller's end."""
        ours, theirs = memory_stream_pair()
        await self._sender.send(theirs)
        return ours

    async def accept(self) -> Stream:
        if self.shortage is not None:
            await trio.lowlevel.checkpoint()
            raise OSError(self.shortage, os.strerror(self.shortage))
        return await self._receiver.receive()

    async def aclose(self) -> None:
        self.closed = True
        self._receiver.close()
        await trio.lowlevel.checkpoint()


@dataclass(slots=True)
class Site:
    """A tunnel that is `listen`, what it dials, and the connections that have ended."""

    limits: Limits = field(default_factory=Limits)
    expected: ExpectedPeer = ANYONE
    once: bool = False
    door: Door = field(default_factory=Door)
    dialled: deque[Duplex] = field(default_factory=deque)
    seen: list[Connection] = field(default_factory=list)
    refuses: str = ""
    breaks: OSError | None = None

    def tunnel(self) -> Tunnel:
        server = TlsServer(SERVER, self.expected, self.limits.handshake)
        return Tunnel(self.dial, "the place", self.limits, server=server, observe=self._note, once=self.once)

    async def call(self) -> TlsStream:
        """A client that has shaken hands."""
        client = TlsStream(await self.door.knock(), CLIENT, Side.CLIENT, place="the tunnel", expected=ANYONE)
        await client.handshake()
        return client

    def failures(self) -> list[str]:
        return [connection.failure for connection in self.seen if connection.failure is not None]

    def _note(self, connection: Connection) -> None:
        if connection.ended:
            self.seen.append(connection)

    async def dial(self) -> Stream:
        await trio.lowlevel.checkpoint()
        if self.refuses:
            raise TransportError(self.refuses)
        if self.breaks is not None:
            raise self.breaks
        ours, theirs = memory_stream_pair()
        self.dialled.append(theirs)
        return ours


async def finish(client: TlsStream, place: Duplex) -> None:
    """End a connection well, from both sides."""
    await client.send_eof()
    await place.send_eof()
    assert await client.receive_some() == b""


# One connection.


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


# The end.


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


# What is logged.


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


# What SNI announces.


@pytest.mark.parametrize(
    ("host", "given", "announced"),
    [
        ("Node1.my.cluster.", None, "node1.my.cluster"),
        ("münchen.example", None, "xn--mnchen-3ya.example"),
        ("10.0.0.1", None, ""),
        ("::1", None, ""),
        ("node1", "", ""),
        ("node1", "front.example", "front.example"),
        ("10.0.0.1", "front.example", "front.example"),
    ],
)
def test_the_target_s_name_is_announced_unless_it_is_an_address(host: str, given: str | None, announced: str) -> None:
    client = make_client(TcpEndpoint(host, 1), TlsSettings(server_name=given), CLIENT, ANYONE, 20)
    assert client.server_name == announced


def test_nothing_is_announced_to_a_place_without_a_host() -> None:
    assert make_client(UnixEndpoint("/run/x"), TlsSettings(), CLIENT, ANYONE, 20).server_name == ""


@pytest.mark.parametrize("name", ["a..b", "a\0b", 64 * "a", ".", "ü..b"])
def test_a_name_that_cannot_be_announced_is_refused(name: str) -> None:
    with pytest.raises(ConnectionFailed, match="is no host name"):
        make_client(TcpEndpoint("node1", 1), replace(TlsSettings(), server_name=name), CLIENT, ANYONE, 20)
