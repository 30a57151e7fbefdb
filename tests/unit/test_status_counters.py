"""What a tunnel's counters make of its connections."""

from __future__ import annotations

import pytest
import trio

from lab.certificates import self_signed
from pytunnel.errors import PytunnelError
from pytunnel.status.counters import TunnelCounters, describe_certificates, reason_of
from pytunnel.status.snapshot import BOUNDS, SHOWN, Outcome, TunnelState
from pytunnel.tls.errors import HandshakeError, PeerRejected, TlsError, TruncatedStream
from pytunnel.tls.session import Session
from pytunnel.transport.errors import ProgramFailed, TransportError, WebSocketError
from pytunnel.transport.places import Stream
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.relay import ConnectionFailed, IdleTooLong, Traffic
from pytunnel.tunnel.tunnel import Limits, Tunnel
from tests.support.concurrency import in_trio_without_waiting
from tests.support.credentials import credentials_of

NODE1, NODE2 = self_signed("node1"), self_signed("node2")
DESCRIBED = TunnelState("sst", "listen", ":4444", ":873", "listening")
SESSION = Session("TLSv1.3", "TLS_AES_256_GCM_SHA384", NODE1.certificate, 0.02)


class Counted:
    """Counters, and a tunnel that carries nothing itself."""

    def __init__(self) -> None:
        self.counters = TunnelCounters()
        self.tunnel = Tunnel(_nowhere, "nowhere", Limits(), observe=self.counters.observe)

    @property
    def state(self) -> TunnelState:
        return self.counters.state(DESCRIBED, self.tunnel)

    def secure(self, seconds: float = 0.02) -> Connection:
        """A connection that has its session."""
        session = Session(SESSION.version, SESSION.cipher, SESSION.peer, seconds)
        connection = Connection("10.0.0.1:40000", "127.0.0.1:873", Traffic(), session)
        self.counters.observe(connection)
        return connection

    def end(self, connection: Connection, error: Exception | None = None) -> None:
        """Let a connection end, well or by an error."""
        connection.error, connection.failure = error, None if error is None else str(error)
        connection.ended = True
        self.counters.observe(connection)


async def _nowhere() -> Stream:
    raise TransportError("nowhere")


@in_trio_without_waiting
async def test_nothing_is_counted_before_anything_happens() -> None:
    assert Counted().state == DESCRIBED


@in_trio_without_waiting
async def test_an_open_connection_is_told_of_with_its_peer_and_cipher() -> None:
    counted = Counted()
    connection = counted.secure()
    connection.traffic.outward, connection.traffic.inward = 5, 3
    await trio.sleep(2)
    state = counted.state
    assert (state.open, state.bytes_out, state.bytes_in) == (1, 5, 3)
    (shown,) = state.connections
    assert (shown.source, shown.target, shown.tls) == ("10.0.0.1:40000", "127.0.0.1:873", "TLSv1.3")
    assert (shown.cipher, shown.bytes_out, shown.bytes_in) == ("TLS_AES_256_GCM_SHA384", 5, 3)
    assert "node1" in shown.peer
    assert shown.seconds == pytest.approx(2)


@in_trio_without_waiting
async def test_of_many_connections_those_are_told_of_that_carried_most() -> None:
    counted = Counted()
    for number in range(SHOWN + 3):
        counted.secure().traffic.inward = number
    state = counted.state
    assert state.open == SHOWN + 3
    assert [each.bytes_in for each in state.connections] == list(range(SHOWN + 2, 2, -1))


@in_trio_without_waiting
async def test_a_program_s_arguments_are_not_told() -> None:
    counted = Counted()
    own, asked_for = counted.secure(), counted.secure()
    own.target, asked_for.target = counted.tunnel.target, "node2:4444"
    assert {each.target for each in counted.state.connections} == {DESCRIBED.target, "node2:4444"}


@in_trio_without_waiting
async def test_bytes_of_a_connection_that_has_ended_still_count() -> None:
    counted = Counted()
    first, second = counted.secure(), counted.secure()
    first.traffic.outward, second.traffic.outward = 5, 7
    counted.end(first)
    state = counted.state
    assert (state.open, len(state.connections), state.bytes_out) == (1, 1, 12)
    assert state.outcomes == (Outcome("completed", "", 1),)


@in_trio_without_waiting
async def test_failures_are_counted_by_reason() -> None:
    counted = Counted()
    counted.end(counted.secure(), TransportError("gone"))
    stranger = Connection("10.0.0.9:1", "127.0.0.1:873", Traffic())
    counted.end(stranger, PeerRejected("a stranger"))
    counted.tunnel.turned_away["limit"] = 2
    assert counted.state.outcomes == (
        Outcome("failed", "unreachable", 1),
        Outcome("failed", "untrusted", 1),
        Outcome("refused", "limit", 2),
    )


@in_trio_without_waiting
async def test_handshakes_are_counted_in_the_class_of_their_time() -> None:
    counted = Counted()
    for seconds in (0.001, BOUNDS[0], 0.3, 60.0):
        counted.secure(seconds)
    handshakes = counted.state.handshakes
    assert handshakes.seconds == pytest.approx(60.306)
    assert {bound: count for bound, count in zip((*BOUNDS, "more"), handshakes.counts, strict=True) if count} == {
        BOUNDS[0]: 2,
        0.5: 1,
        "more": 1,
    }


@in_trio_without_waiting
async def test_a_handshake_is_counted_once_and_also_where_nothing_was_carried_then() -> None:
    counted = Counted()
    connection = counted.secure()
    counted.end(connection)
    unreachable = Connection("10.0.0.1:2", "127.0.0.1:873", Traffic(), SESSION)
    counted.end(unreachable, TransportError("nobody is there"))
    assert sum(counted.state.handshakes.counts) == 2
    assert counted.state.connections == ()


@in_trio_without_waiting
async def test_rates_are_those_of_the_last_seconds() -> None:
    counted = Counted()
    connection = counted.secure()
    connection.traffic.outward = 10**9  # long ago
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counted.counters.keep_rates)
        await trio.sleep(60.5)
        connection.traffic.outward += 4500
        state = counted.state
        nursery.cancel_scope.cancel()
    assert state.rate_out == pytest.approx(1000)
    assert state.connections[0].rate_out == pytest.approx(1000)
    assert (state.rate_in, state.connections[0].rate_in) == (0, 0)


@in_trio_without_waiting
async def test_a_young_connection_s_rate_is_that_of_its_own_time() -> None:
    counted = Counted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counted.counters.keep_rates)
        await trio.sleep(60.25)
        connection = counted.secure()
        await trio.sleep(0.5)
        connection.traffic.inward = 500
        state = counted.state
        nursery.cancel_scope.cancel()
    assert state.connections[0].rate_in == pytest.approx(1000)


@in_trio_without_waiting
async def test_reloads_are_told_of() -> None:
    counted = Counted()
    counted.counters.reloads, counted.counters.reloads_failed = 2, 1
    assert (counted.state.reloads, counted.state.reloads_failed) == (2, 1)


# Reasons.


def caused(cause: Exception) -> ConnectionFailed:
    """A failure of the relay's, as it keeps its cause."""
    error = ConnectionFailed(str(cause))
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PeerRejected("x"), "untrusted"),
        (HandshakeError("x"), "handshake"),
        (TransportError("x"), "unreachable"),
        (ProgramFailed("x"), "program"),
        (WebSocketError("x"), "websocket"),
        (OSError(24, "too many open files"), "system"),
        (IdleTooLong("no byte for 5 s"), "idle"),
        (ConnectionFailed("serves one connection"), "refused"),
        (caused(TruncatedStream("x")), "truncated"),
        (caused(TlsError("x")), "tls"),
        (caused(trio.BrokenResourceError("x")), "broken"),
        (PytunnelError("x"), "other"),
        (RuntimeError("x"), "other"),
        (None, "other"),
    ],
)
def test_each_failure_has_one_word(error: Exception | None, reason: str) -> None:
    assert reason_of(error) == reason


# Certificates.


def test_our_own_certificate_and_the_trusted_ones_are_told_of() -> None:
    own, *trusted = describe_certificates(credentials_of(NODE1, [NODE1, NODE2, NODE2]))
    assert (own.own, own.subject) == (True, "/CN=node1")
    assert own.not_after == NODE1.certificate.not_valid_after_utc.timestamp()
    assert {(each.own, each.subject) for each in trusted} == {(False, "/CN=node1"), (False, "/CN=node2")}
    assert len(trusted) == 2
