"""What only real sockets do to a relay: a reset that the system tells once."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
import trio.testing

from pytunnel.transport.sockets import SocketStream
from pytunnel.tunnel.relay import ConnectionFailed, Traffic, relay
from tests.support.concurrency import in_trio


def tcp_pair() -> tuple[socket.socket, SocketStream]:
    """A program's end, and ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        return theirs, SocketStream(trio.socket.from_stdlib_socket(server.accept()[0]))


@pytest.mark.parametrize("attempt", range(16))  # which way meets the reset first is the scheduler's choice
@in_trio
async def test_a_reset_that_writing_has_met_is_no_end_of_file_for_the_other_side(attempt: int) -> None:
    client, near = tcp_pair()
    server, far = tcp_pair()
    failures: list[ConnectionFailed] = []

    async def run() -> None:
        with pytest.raises(ConnectionFailed) as caught:
            await relay(near, far, Traffic(), names=("client", "server"))
        failures.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        client.sendall(b"more of the request")  # both ways have something to do when the relay goes on
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    assert str(failures[0]) == "server broke the connection off (Connection reset by peer)"
    client.close()
    near.socket.close()
    far.socket.close()
