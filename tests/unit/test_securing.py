"""What a client announces by SNI, and whom it expects."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from trio.testing import memory_stream_pair

from pytunnel.tls.context import Side
from pytunnel.tls.errors import PeerRejected, TlsError
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.endpoint import TcpEndpoint, UnixEndpoint
from pytunnel.transport.names import Confirmed
from pytunnel.tunnel import securing
from pytunnel.tunnel.relay import ConnectionFailed
from pytunnel.tunnel.securing import FRESH, PeerAt, make_client
from tests.support.concurrency import in_trio_without_waiting
from tests.support.handshakes import ANYONE
from tests.support.tunnel_site import CLIENT, SERVER


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


class Dns:
    """Answers which names a host has, and counts how often it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: tuple[str, ...] = ()
        self.asked = 0
        monkeypatch.setattr(securing, "other_names", self._answer)

    async def _answer(self, host: str) -> Confirmed:
        self.asked += 1
        await trio.sleep(1)
        return Confirmed(self.names)


async def knock(peer: PeerAt) -> str:
    """What a client that dials node1 while `peer` is expected there comes to, in memory."""
    ours, theirs = memory_stream_pair()
    client = make_client(TcpEndpoint("127.0.0.1", 1), TlsSettings(), CLIENT, peer, 20)
    server = TlsStream(theirs, SERVER, Side.SERVER, place="node2", expected=ANYONE)
    said = "accepted"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_shake_hands, server)
        try:
            await client.secure(ours, "127.0.0.1:1")
        except PeerRejected as error:
            said = str(error)
    return said


async def _shake_hands(server: TlsStream) -> None:
    with suppress(TlsError):
        await server.handshake()


@in_trio_without_waiting
async def test_a_resolver_that_is_up_later_lets_the_peer_in_then(monkeypatch: pytest.MonkeyPatch) -> None:
    dns, peer = Dns(monkeypatch), PeerAt("127.0.0.1")
    assert "expected 127.0.0.1" in await knock(peer)
    dns.names = ("node1",)
    await trio.sleep(FRESH)
    assert await knock(peer) == "accepted"


@in_trio_without_waiting
async def test_a_name_that_dns_confirms_no_more_is_not_accepted_any_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    dns, peer = Dns(monkeypatch), PeerAt("127.0.0.1")
    dns.names = ("node1",)
    assert await knock(peer) == "accepted"
    dns.names = ()
    await trio.sleep(FRESH)
    assert "expected 127.0.0.1" in await knock(peer)


@in_trio_without_waiting
async def test_many_connections_at_once_are_one_question_to_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    dns, peer = Dns(monkeypatch), PeerAt("127.0.0.1")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(peer.now)
    assert dns.asked == 1


@in_trio_without_waiting
async def test_a_connection_that_is_given_up_while_dns_is_asked_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    Dns(monkeypatch)
    ours, theirs = memory_stream_pair()
    client = make_client(TcpEndpoint("127.0.0.1", 1), TlsSettings(), CLIENT, PeerAt("127.0.0.1"), 20)
    with trio.move_on_after(0.5):
        await client.secure(ours, "127.0.0.1:1")
    assert await theirs.receive_some() == b""
