"""A target is reached as long as its client is there; what the client says meanwhile stays unread."""

from __future__ import annotations

import select
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import memory_stream_pair

from pytunnel.transport import hangup
from pytunnel.transport.places import Stream
from pytunnel.transport.sockets import SocketStream
from pytunnel.tunnel import reaching
from pytunnel.tunnel.reaching import Lookout, Reaching
from pytunnel.tunnel.relay import ConnectionFailed
from tests.support.concurrency import in_trio


def unix_pair() -> tuple[socket.socket, SocketStream]:
    theirs, ours = socket.socketpair()
    return theirs, SocketStream(trio.socket.from_stdlib_socket(ours))


def tcp_pair() -> tuple[socket.socket, SocketStream]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        return theirs, SocketStream(trio.socket.from_stdlib_socket(server.accept()[0]))


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


async def never() -> Stream:
    await trio.sleep_forever()
    raise AssertionError


def after(seconds: float) -> Callable[[], Awaitable[Stream]]:
    async def reach() -> Stream:
        await trio.sleep(seconds)
        return memory_stream_pair()[0]

    return reach


async def watched(tried: Reaching, reach: Callable[[], Awaitable[Stream]]) -> Stream:
    """The try with somebody who looks out for its client, as in a tunnel."""
    lookout = Lookout()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lookout.keep)
        lookout.add(tried)
        try:
            return await tried.run("node1", reach)
        except ConnectionFailed as error:
            failure = error
        finally:
            lookout.remove(tried)
            nursery.cancel_scope.cancel()
    raise failure


@pytest.mark.parametrize(("pair", "leave"), [(tcp_pair, reset), (unix_pair, socket.socket.close)], ids=["TCP", "Unix"])
@in_trio
async def test_a_client_that_has_gone_is_noticed_whatever_it_said_before(
    pair: Callable[[], tuple[socket.socket, SocketStream]], leave: Callable[[socket.socket], None]
) -> None:
    theirs, ours = pair()
    theirs.sendall(b"hello")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hangup.wait_gone, ours)
        await trio.testing.wait_all_tasks_blocked()
        leave(theirs)
    with pytest.raises(ConnectionFailed, match="node1 left before its target was reached"):
        await watched(Reaching(ours), never)


@in_trio
async def test_a_client_that_said_end_of_file_is_waited_for_and_nothing_of_it_is_read() -> None:
    theirs, ours = tcp_pair()
    theirs.sendall(b"question")
    theirs.shutdown(socket.SHUT_WR)
    tried = Reaching(ours)

    async def reach() -> Stream:
        while not tried.client_ended:  # noqa: ASYNC110 - nobody is told of it
            await trio.sleep(0.01)
        return memory_stream_pair()[0]

    await watched(tried, reach)
    assert await ours.receive_some() == b"question"


@in_trio
async def test_a_client_that_said_end_of_file_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "PATIENCE", 0.1)
    theirs, ours = tcp_pair()
    theirs.close()
    with pytest.raises(ConnectionFailed, match="node1 left before its target was reached"):
        await watched(Reaching(ours), never)


@in_trio
async def test_a_client_that_waits_or_talks_has_not_ended() -> None:
    theirs, ours = tcp_pair()
    theirs.sendall(b"hello")
    tried = Reaching(ours)
    await watched(tried, after(0.2))
    assert not tried.client_ended
    theirs.close()


@in_trio
async def test_what_fails_while_a_target_is_reached_is_raised_as_it_is() -> None:
    async def fail() -> Stream:
        raise ConnectionFailed("nobody is there")

    with pytest.raises(ConnectionFailed, match="nobody is there"):
        await watched(Reaching(tcp_pair()[1]), fail)


@in_trio
async def test_a_system_without_file_descriptors_only_costs_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(select, "epoll", exhausted)
    await watched(Reaching(tcp_pair()[1]), after(0.1))


@in_trio
async def test_a_client_that_is_refused_meanwhile_fails_by_the_reason_of_that() -> None:
    theirs, ours = tcp_pair()

    async def refuse() -> Stream:
        ours.socket.close()
        await trio.testing.wait_all_tasks_blocked()
        raise ConnectionFailed("refused")

    with pytest.raises(ConnectionFailed, match="refused"):
        await watched(Reaching(ours), refuse)
    theirs.close()
