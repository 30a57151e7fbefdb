"""Which names are expected at an address: those that DNS confirms in both directions, and no others."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio

from pytunnel.transport import names
from pytunnel.transport.names import Confirmed, addresses_of, confirmed_names, names_of
from pytunnel.tunnel.securing import expected_at
from tests.support.concurrency import in_trio


class Zone(trio.abc.HostnameResolver):
    """What DNS says forwards; backwards it is `reverse`, which whoever owns the address block may write."""

    def __init__(self, forward: Mapping[str, Sequence[str]], reverse: Mapping[str, Sequence[str]]) -> None:
        self.forward = forward
        self.reverse = reverse

    async def getaddrinfo(
        self, host: bytes | None, port: object, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        addresses = self.forward.get((host or b"").decode())
        if addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError

    def gethostbyaddr(self, address: str) -> tuple[str, list[str], list[str]]:
        found = self.reverse.get(address)
        if found is None:
            raise socket.herror(1, "Unknown host")
        return found[0], list(found[1:]), [address]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Zone:
    made = Zone(
        {
            "node1.my.cluster": ["10.0.0.1", "10.0.0.7"],
            "node1": ["10.0.0.1"],
            "db.example": ["10.0.0.1"],
            "bank.example": ["192.0.2.1"],
        },
        {"10.0.0.1": ["node1.my.cluster", "db.example", "bank.example", "gone.example"], "10.0.0.9": ["bank.example"]},
    )
    monkeypatch.setattr(socket, "gethostbyaddr", made.gethostbyaddr)
    return made


@in_trio
async def test_a_name_counts_if_it_leads_back_to_the_address(zone: Zone) -> None:
    trio.socket.set_custom_hostname_resolver(zone)
    assert await names_of("10.0.0.1") == ("node1.my.cluster", "db.example")


@pytest.mark.parametrize("address", ["10.0.0.9", "10.0.0.200"])
@in_trio
async def test_an_address_whose_names_lead_elsewhere_has_none(address: str, zone: Zone) -> None:
    trio.socket.set_custom_hostname_resolver(zone)
    assert await names_of(address) == ()


@in_trio
async def test_a_resolver_that_does_not_answer_only_costs_the_names(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_LIMIT", 0.05)

    class Silent(Zone):
        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            await trio.sleep_forever()

    trio.socket.set_custom_hostname_resolver(Silent(zone.forward, zone.reverse))
    assert await names_of("10.0.0.1") == ()
    assert await addresses_of("node1.my.cluster") == ()


@in_trio
async def test_all_questions_about_one_host_share_one_limit(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_LIMIT", 2.0)
    asked: list[bytes] = []

    class Dying(Zone):
        async def getaddrinfo(self, host: Any, *rest: Any, **more: Any) -> Any:
            asked.append(host)
            if len(asked) > 2:
                await trio.sleep_forever()
            return await Zone.getaddrinfo(self, host, *rest, **more)

    trio.socket.set_custom_hostname_resolver(Dying(zone.forward, zone.reverse))
    found = await confirmed_names("node1", None)
    assert found == Confirmed(("node1.my.cluster",), answered=False)
    assert asked == [b"node1", b"node1.my.cluster", b"db.example"]


@pytest.mark.parametrize("forward", [True, False], ids=["forward", "reverse"])
@in_trio
async def test_a_resolver_that_says_that_nobody_answered_is_no_answer(
    forward: bool, zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(address: str) -> Any:
        raise socket.herror(2, "Host name lookup failure")

    class Unreachable(Zone):
        async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    trio.socket.set_custom_hostname_resolver(Unreachable(zone.forward, zone.reverse))
    if not forward:
        monkeypatch.setattr(socket, "gethostbyaddr", fail)
    assert await confirmed_names("10.0.0.1", "10.0.0.1") == Confirmed((), answered=False)
    assert await addresses_of("node1") == ()


@in_trio
async def test_the_addresses_of_a_name_are_all_that_it_has(zone: Zone) -> None:
    trio.socket.set_custom_hostname_resolver(zone)
    assert await addresses_of("node1.my.cluster") == ("10.0.0.1", "10.0.0.7")
    assert await addresses_of("nowhere.example") == ()


@pytest.mark.parametrize(
    ("host", "given_names", "expected"),
    [
        ("node1.my.cluster", (), ("node1.my.cluster",)),
        ("10.0.0.1", (), ("10.0.0.1", "node1.my.cluster", "db.example")),
        ("10.0.0.9", (), ("10.0.0.9",)),
        ("node1", (), ("node1", "node1.my.cluster", "db.example")),
        ("10.0.0.1", ("node7",), ("node7",)),
        ("node1.my.cluster", ("node7", "10.0.0.7"), ("node7", "10.0.0.7")),
    ],
)
@in_trio
async def test_whom_to_expect_at_a_host(
    host: str, given_names: tuple[str, ...], expected: tuple[str, ...], zone: Zone
) -> None:
    trio.socket.set_custom_hostname_resolver(zone)
    assert (await expected_at(host, given_names)).names == expected
