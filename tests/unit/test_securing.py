"""What a client announces by SNI."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.endpoint import TcpEndpoint, UnixEndpoint
from pytunnel.tunnel.relay import ConnectionFailed
from pytunnel.tunnel.securing import make_client
from tests.support.handshakes import ANYONE
from tests.support.tunnel_site import CLIENT


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
