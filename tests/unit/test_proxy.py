"""Dialling through an HTTP proxy and to a WebSocket, where the other side behaves badly: each says who, and what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from lab.ports import free_port
from pytunnel.transport import places
from pytunnel.transport.endpoint import Endpoint, TcpEndpoint, parse_endpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions
from tests.support.concurrency import in_trio

NODE = TcpEndpoint("node2.my.cluster", 4444)


@asynccontextmanager
async def saying(answer: bytes, *, and_wait: bool = False) -> AsyncIterator[tuple[TcpEndpoint, list[bytes]]]:
    """A server that answers the first bytes of each connection and closes it, or waits; what it heard."""
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        heard.append(await stream.receive_some())
        await stream.send_all(answer)
        if and_wait:
            heard.append(await stream.receive_some())
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield TcpEndpoint("127.0.0.1", int(listeners[0].socket.getsockname()[1])), heard
        nursery.cancel_scope.cancel()


async def failure(endpoint: Endpoint, options: SocketOptions) -> str:
    with pytest.raises(TransportError) as caught:
        await places.dial(endpoint, options)
    return str(caught.value)


@in_trio
async def test_the_proxy_is_asked_for_the_name_and_its_streams_carry_bytes() -> None:
    async with saying(b"HTTP/1.1 200 Connection established\r\n\r\n", and_wait=True) as (proxy, heard):
        stream = await places.dial(NODE, SocketOptions(proxy=proxy))
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b""
        await stream.aclose()
    assert heard[0].startswith(b"CONNECT node2.my.cluster:4444 HTTP/1.1\r\nHost: node2.my.cluster:4444\r\n")
    assert heard[1] == b"hello"


@in_trio
async def test_an_address_of_ipv6_is_asked_for_in_brackets() -> None:
    async with saying(b"HTTP/1.1 200 OK\r\n\r\n", and_wait=True) as (proxy, heard):
        await (await places.dial(TcpEndpoint("2001:db8::2", 4444), SocketOptions(proxy=proxy))).aclose()
    assert heard[0].startswith(b"CONNECT [2001:db8::2]:4444 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "answered 403 Forbidden to CONNECT node2"),
        (b"HTTP/1.1 407 x\r\nContent-Length: 0\r\n\r\n", "a proxy that wants a password can't be used"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", "answered 502 Bad Gateway to CONNECT"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + 100_000 * b"x", "did not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "sent more than its answer"),
        (b"", "closed the connection without an answer"),
    ],
)
@in_trio
async def test_a_proxy_that_does_not_let_us_through_is_named(answer: bytes, said: str) -> None:
    async with saying(answer) as (proxy, _):
        text = await failure(NODE, SocketOptions(proxy=proxy))
        assert str(proxy) in text
        assert said in text


@in_trio
async def test_a_proxy_that_is_not_there_is_named() -> None:
    proxy = TcpEndpoint("127.0.0.1", free_port("127.0.0.1"))
    assert f"{proxy} can't be reached" in await failure(NODE, SocketOptions(proxy=proxy))


@in_trio
async def test_a_proxy_that_does_not_answer_has_the_connect_timeout() -> None:
    async with saying(b"HTTP/1.1 ", and_wait=True) as (proxy, _):
        text = await failure(NODE, SocketOptions(proxy=proxy, connect_timeout=0.2))
        assert text == f"the proxy {proxy} did not reach node2.my.cluster:4444 within 0.2 s"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching"])
@in_trio
async def test_a_server_that_opens_no_web_socket_has_the_connect_timeout(answer: bytes) -> None:
    async with saying(answer, and_wait=True) as (server, _):
        text = await failure(parse_endpoint(f"ws://{server}/sst"), SocketOptions(connect_timeout=0.2))
        assert text == f"{server} did not open the WebSocket /sst within 0.2 s"


@in_trio
async def test_a_server_of_wss_that_is_silent_has_the_connect_timeout() -> None:
    async with saying(b"", and_wait=True) as (server, _):
        text = await failure(parse_endpoint(f"wss://{server}/sst"), SocketOptions(connect_timeout=0.3))
        assert text == f"{server} did not open the WebSocket /sst within 0.3 s"
