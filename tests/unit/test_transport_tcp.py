"""TCP: what is listened at and dialled, with which options, and what is said of a failure."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import ExitStack

import pytest
import trio

from pytunnel.transport import places
from pytunnel.transport.endpoint import (
    SystemdEndpoint,
    TcpEndpoint,
)
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import Retry, SocketOptions
from tests.support.concurrency import in_trio
from tests.support.transports import (
    DEFAULT,
    LOCAL,
    Names,
    connected,
    failure,
    has_ipv6,
    host_of,
    listening,
    port_of,
    socket_of,
)


@in_trio
async def test_an_address_in_numbers_is_dialled_where_no_resolver_answers() -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    dialled, _ = await connected()
    assert socket_of(dialled).getpeername()[0] == "127.0.0.1"


@in_trio
async def test_port_0_is_a_free_port_the_same_on_every_address() -> None:
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.1", "127.0.0.2")))
    listeners = await listening(TcpEndpoint("both", 0))
    assert [host_of(item) for item in listeners] == ["127.0.0.1", "127.0.0.2"]
    assert len({port_of(item) for item in listeners}) == 1


@pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6; run the tests on one that has")
@in_trio
async def test_no_host_is_every_address_of_both_families() -> None:
    listeners = await listening(TcpEndpoint("", 0))
    assert {host_of(item) for item in listeners} == {"0.0.0.0", "::"}  # noqa: S104 - that is asked for


@in_trio
async def test_one_family_is_listened_on_where_it_is_asked_for() -> None:
    listeners = await listening(TcpEndpoint("", 0), SocketOptions(family=socket.AF_INET))
    assert [socket_of(item).family for item in listeners] == [socket.AF_INET]


@in_trio
async def test_a_name_with_an_ipv6_address_that_is_switched_off_is_listened_on_at_the_other() -> None:
    trio.socket.set_custom_hostname_resolver(Names(localhost=("2001:db8::1", "127.0.0.1")))
    (listener,) = await listening(TcpEndpoint("localhost", 0))
    assert host_of(listener) == "127.0.0.1"


@pytest.mark.parametrize("host", ["2001:db8::1", "192.0.2.1"])
@in_trio
async def test_an_address_of_another_host_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(TransportError, match=r"cannot assign requested address; is the address one of this host's\?"):
        await listening(TcpEndpoint(host, 0))


@in_trio
async def test_one_address_of_a_name_that_cannot_be_listened_on_closes_the_others() -> None:
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.1", "192.0.2.1")))
    (listener,) = await listening()
    port = port_of(listener)
    await listener.aclose()
    with pytest.raises(TransportError):
        await listening(TcpEndpoint("both", port))
    assert "connection refused" in await failure(TcpEndpoint("127.0.0.1", port))


@in_trio
async def test_a_port_that_is_taken_is_told_apart() -> None:
    (listener,) = await listening()
    with pytest.raises(TransportError, match="address already in use; another program listens there") as caught:
        await listening(TcpEndpoint("127.0.0.1", port_of(listener)))
    assert caught.value.port_taken


@in_trio
async def test_a_port_that_only_root_may_have_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with trio.socket.socket() as sock:
        monkeypatch.setattr(type(sock), "bind", refuse)  # root, as which this may run, is refused nothing
    with pytest.raises(TransportError, match=r"permission denied; a port below 1024 is for root, .*CAP_NET_BIND_SER"):
        await listening(TcpEndpoint("127.0.0.1", 443))


@in_trio
async def test_a_chosen_port_that_landlock_denies_on_the_second_address_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.1", "127.0.0.2")))
    with trio.socket.socket() as sock:
        bind = type(sock).bind

    async def permit_port_0(self: trio.socket.SocketType, address: tuple[object, ...]) -> None:
        if address[1] != 0:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        await bind(self, address)

    monkeypatch.setattr(type(sock), "bind", permit_port_0)
    with pytest.raises(TransportError, match=r"Landlock denies .*: with port 0 name one, as 127\.0\.0\.1:0"):
        await listening(TcpEndpoint("both", 0))


@in_trio
async def test_the_bound_address_goes_before_the_endpoint_s() -> None:
    (listener,) = await listening(LOCAL, SocketOptions(bind_host="127.0.0.2"))
    assert host_of(listener) == "127.0.0.2"


@in_trio
async def test_a_source_address_is_bound() -> None:
    dialled, accepted = await connected(SocketOptions(bind_host="127.0.0.3"))
    assert host_of(dialled) == "127.0.0.3"
    assert places.peer_of(accepted).startswith("127.0.0.3:")


@in_trio
async def test_the_bound_port_is_for_listening_so_that_several_connections_can_be_dialled() -> None:
    (listener,) = await listening()
    target = TcpEndpoint("127.0.0.1", port_of(listener))
    options = SocketOptions(bind_host="127.0.0.3", bind_port=port_of(listener))
    first, second = await places.dial(target, options), await places.dial(target, options)
    assert [host_of(first), host_of(second)] == ["127.0.0.3", "127.0.0.3"]
    assert len({port_of(first), port_of(second), port_of(listener)}) == 3


@in_trio
async def test_a_source_address_of_another_family_is_refused() -> None:
    (listener,) = await listening()
    target = TcpEndpoint("127.0.0.1", port_of(listener))
    assert "is of another family than the target's" in await failure(target, SocketOptions(bind_host="::1"))


@in_trio
async def test_a_source_address_that_is_another_host_s_is_named() -> None:
    (listener,) = await listening()
    target = TcpEndpoint("127.0.0.1", port_of(listener))
    said = await failure(target, SocketOptions(bind_host="192.0.2.77"))
    assert "(127.0.0.1: the source address 192.0.2.77 can't be used, cannot assign requested address)" in said


@pytest.mark.parametrize(
    ("host", "family", "said"),
    [
        ("127.0.0.1", socket.AF_INET6, "127.0.0.1 is no IPv6 address, which pf=ip6 demands"),
        ("::1", socket.AF_INET, "::1 is no IPv4 address, which pf=ip4 demands"),
    ],
)
@in_trio
async def test_an_address_of_another_family_than_the_demanded_is_told(
    host: str, family: socket.AddressFamily, said: str
) -> None:
    assert await failure(TcpEndpoint(host, 1), SocketOptions(family=family)) == said


@in_trio
async def test_a_source_address_of_one_family_reaches_a_name_with_both() -> None:
    trio.socket.set_custom_hostname_resolver(Names(both=("::1", "127.0.0.1"), **{"127.0.0.3": ("127.0.0.3",)}))
    (listener,) = await listening()
    stream = await places.dial(TcpEndpoint("both", port_of(listener)), SocketOptions(bind_host="127.0.0.3"))
    assert socket_of(stream).getpeername()[0] == "127.0.0.1"


@pytest.mark.parametrize("wanted", [True, False])
@in_trio
async def test_nagle_s_algorithm_is_off_unless_it_is_asked_for(wanted: bool) -> None:
    options = SocketOptions(no_delay=wanted)
    dialled, accepted = await connected(options, options)
    places.adjust(accepted, options)
    for stream in (dialled, accepted):
        assert bool(socket_of(stream).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == wanted


def keep_alive_of(stream: object) -> list[int]:
    wanted = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    )
    return [socket_of(stream).getsockopt(level, option) for level, option in wanted]


@pytest.mark.parametrize(
    ("options", "set_"),
    [
        (DEFAULT, [1, 60, 15, 4]),
        (SocketOptions(keep_idle=7, keep_interval=3, keep_count=2), [1, 7, 3, 2]),
        (SocketOptions(keep_alive=False), [0, 60, 15, 4]),
    ],
    ids=["default", "own times", "off"],
)
@in_trio
async def test_keep_alive_is_on_at_both_ends_unless_it_is_switched_off(options: SocketOptions, set_: list[int]) -> None:
    for stream in await connected(options, options):
        assert keep_alive_of(stream) == set_


@in_trio
async def test_a_connection_that_systemd_s_socket_accepted_is_kept_alive_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        (listener,) = places.adopt(SystemdEndpoint(""), [os.dup(passed.fileno())], DEFAULT)
        await places.dial(TcpEndpoint("127.0.0.1", passed.getsockname()[1]), DEFAULT)
        accepted = await listener.accept()
    places.adjust(accepted, DEFAULT)
    assert keep_alive_of(accepted) == [1, 60, 15, 4]
    await listener.aclose()


@in_trio
async def test_an_address_that_refuses_does_not_hide_the_next_one() -> None:
    (listener,) = await listening()
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.9", "127.0.0.1")))
    stream = await places.dial(TcpEndpoint("both", port_of(listener)), DEFAULT)
    assert socket_of(stream).getpeername()[0] == "127.0.0.1"


@in_trio
async def test_each_address_that_cannot_be_reached_is_named() -> None:
    (listener,) = await listening()
    port = port_of(listener)
    await listener.aclose()
    trio.socket.set_custom_hostname_resolver(Names(both=("127.0.0.9", "127.0.0.1")))
    said = await failure(TcpEndpoint("both", port))
    assert said == f"both:{port} can't be reached (127.0.0.9: connection refused; 127.0.0.1: connection refused)"


@in_trio
async def test_an_address_that_does_not_answer_has_its_time() -> None:
    with socket.socket() as full:  # whose queue takes one connection, and nobody accepts it
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        target = TcpEndpoint("127.0.0.1", full.getsockname()[1])
        with ExitStack() as waiting:
            for _ in range(3):
                waiting.enter_context(socket.socket()).setblocking(False)
            first = waiting.enter_context(socket.create_connection(full.getsockname()))
            assert first
            said = await failure(target, SocketOptions(connect_timeout=0.05))
    assert said == f"{target} can't be reached (127.0.0.1: no answer within 0.05 s)"


@in_trio
async def test_a_dial_is_repeated_as_often_as_was_asked_for() -> None:
    (listener,) = await listening()
    port = port_of(listener)
    await listener.aclose()
    options = SocketOptions(retry=Retry(attempts=100, interval=0.01))
    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            await (await places.dial(TcpEndpoint("127.0.0.1", port), options)).aclose()

        nursery.start_soon(dial)
        await trio.sleep(0.05)
        (late,) = await listening(TcpEndpoint("127.0.0.1", port))
        await late.accept()


@in_trio
async def test_a_name_that_is_unknown_is_named() -> None:
    assert "the name 'nowhere.invalid' can't be resolved" in await failure(TcpEndpoint("nowhere.invalid", 1))


@pytest.mark.parametrize("name", ["a..b", 70 * "a" + ".example", "ü" * 70])
@in_trio
async def test_a_name_that_cannot_be_one_is_named(name: str) -> None:
    assert f"the name {name!r} can't be resolved" in await failure(TcpEndpoint(name, 1))


@in_trio
async def test_only_addresses_of_the_allowed_networks_are_let_in() -> None:
    _, accepted = await connected()
    inside = SocketOptions(allowed_peers=(ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("127.0.0.0/30")))
    outside = SocketOptions(allowed_peers=(ipaddress.ip_network("127.0.0.2/32"), ipaddress.ip_network("::/0")))
    assert [places.is_allowed(accepted, options) for options in (DEFAULT, inside, outside)] == [True, True, False]


@in_trio
async def test_a_peer_that_has_gone_is_not_let_in() -> None:
    _, accepted = await connected()
    await accepted.aclose()
    assert not places.is_allowed(accepted, SocketOptions(allowed_peers=(ipaddress.ip_network("127.0.0.0/8"),)))
    assert places.peer_of(accepted) == "a peer that has gone"


@in_trio
async def test_an_aborted_connection_is_reset() -> None:
    dialled, accepted = await connected()
    await places.abort(accepted)
    with pytest.raises(trio.BrokenResourceError):
        await dialled.receive_some()
