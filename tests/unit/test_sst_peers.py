"""What a joiner finds of its own certificate before it starts, and when it asks DNS for that."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from lab.certificates import self_signed
from pytunnel.sst.errors import SstError
from pytunnel.sst.peers import check_own_name
from pytunnel.sst.settings import SstSettings
from pytunnel.sst.tlsfiles import NameRule
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport import names
from pytunnel.transport.options import SocketOptions
from tests.support.concurrency import in_trio

SHORT, FULL = self_signed("node1").certificate, self_signed("node1.my.cluster").certificate


class Resolver(trio.abc.HostnameResolver):
    """One that counts its questions, and answers them or is silent."""

    def __init__(self, *, silent: bool) -> None:
        self.asked: list[str] = []
        self._silent = silent

    async def getaddrinfo(self, host: Any, *_: Any, **__: Any) -> Any:
        self.asked.append(host)
        if self._silent:
            await trio.sleep_forever()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]

    async def getnameinfo(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def reverse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyaddr", lambda address: ("node1.my.cluster", [], [address]))


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests in which nobody answers; where somebody does, he may take his time."""
    monkeypatch.setattr(names, "_LIMIT", 0.05)


def resolver(*, silent: bool = False) -> Resolver:
    made = Resolver(silent=silent)
    trio.socket.set_custom_hostname_resolver(made)
    return made


def settings(rule: NameRule = NameRule.MUST_CARRY, peer_names: tuple[str, ...] = ()) -> SstSettings:
    values = TlsSettings(certificate=Path("/t/node.pem"), peer_names=peer_names)
    return SstSettings(values, SocketOptions(), rule, "tests", legacy_donor=False, streams=4)


@in_trio
async def test_dns_is_not_asked_where_the_certificate_carries_the_announced_name() -> None:
    asked = resolver(silent=True).asked
    assert await check_own_name("node1", settings(), SHORT) is None
    assert not asked


@in_trio
async def test_dns_is_not_asked_where_the_name_is_configured() -> None:
    asked = resolver(silent=True).asked
    assert await check_own_name("10.0.0.1", settings(peer_names=("node1",)), SHORT) is None
    with pytest.raises(SstError, match="no donor would send to it"):
        await check_own_name("10.0.0.1", settings(peer_names=("node7",)), SHORT)
    assert not asked


@pytest.mark.parametrize("host", ["node1", "10.0.0.1"])
@in_trio
async def test_a_name_that_dns_confirms_passes(host: str) -> None:
    resolver()
    assert await check_own_name(host, settings(), FULL) is None


@pytest.mark.usefixtures("no_patience")
@in_trio
async def test_an_error_says_that_dns_did_not_answer() -> None:
    resolver(silent=True)
    with pytest.raises(SstError, match=r"DNS did not answer.*no donor would send to it"):
        await check_own_name("node1", settings(), FULL)


@pytest.mark.usefixtures("no_patience")
@in_trio
async def test_a_warning_says_that_dns_did_not_answer() -> None:
    resolver(silent=True)
    said = await check_own_name("node1", settings(NameRule.SHOULD_CARRY), FULL)
    assert said is not None
    assert "DNS did not answer" in said


@in_trio
async def test_dns_is_not_blamed_where_it_answered() -> None:
    resolver()
    with pytest.raises(SstError) as caught:
        await check_own_name("10.0.0.1", settings(), SHORT)
    assert "DNS" not in str(caught.value)
