"""The HTTP part of a WebSocket: what is answered to whom, and what is said of a server that gives none."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import memory_stream_pair

from pytunnel.transport.endpoint import TcpEndpoint, WebSocketEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.headers import Headers, parse_headers
from pytunnel.transport.upgrade import answer, ask
from tests.support.concurrency import in_trio_without_waiting

EDGE = WebSocketEndpoint(TcpEndpoint("edge.example", 8080), "/sst", False, "query=1")
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
LINES = ("GET /sst HTTP/1.1", "Host: edge.example", "Connection: Upgrade", "Upgrade: websocket", KEY)
VERSION = "Sec-WebSocket-Version: 13"


def http(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode("latin-1")


async def answered(request: bytes, demanded: Headers = ()) -> tuple[str, str]:
    """What our side says to a raw request, and how it fails ("" if it doesn't)."""
    ours, theirs = memory_stream_pair()
    failures: list[str] = []

    async def serve() -> None:
        try:
            await answer(ours, "client:1", "/sst", demanded)
        except TransportError as error:
            failures.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await theirs.send_all(request)
        said = (await theirs.receive_some(8192)).decode()
        await theirs.aclose()
    return said, "".join(failures)


@in_trio_without_waiting
async def test_a_request_for_our_path_gets_its_web_socket() -> None:
    said, failure = await answered(http(*LINES, VERSION))
    assert said.startswith("HTTP/1.1 101 ")
    assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in said  # RFC 6455, 1.3
    assert failure == ""


@pytest.mark.parametrize("target", ["/sst?token=x", "/sst"])
@in_trio_without_waiting
async def test_a_query_does_not_matter(target: str) -> None:
    said, _ = await answered(http(f"GET {target} HTTP/1.1", *LINES[1:], VERSION))
    assert said.startswith("HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        (http("GET /other HTTP/1.1", *LINES[1:], VERSION), "404 Not Found", "no WebSocket at this path"),
        (http("GET /sst/ HTTP/1.1", *LINES[1:], VERSION), "404 Not Found", "no WebSocket at this path"),
        (http("GET /ss%74 HTTP/1.1", *LINES[1:], VERSION), "404 Not Found", "no WebSocket at this path"),
        (http(*LINES[:2]), "426 Upgrade Required", "Connection: Upgrade"),
        (http(*LINES[:3], KEY, VERSION), "426 Upgrade Required", "Upgrade: websocket"),
        (http(*LINES), "426 Upgrade Required", "Sec-WebSocket-Version"),
        (http(*LINES, "Sec-WebSocket-Version: 8"), "426 Upgrade Required", "Sec-WebSocket-Version"),
        (http(*LINES[:4], VERSION), "400 Bad Request", "Sec-WebSocket-Key"),
        (http("POST /sst HTTP/1.1", *LINES[1:], VERSION), "400 Bad Request", "GET"),
        (http("GET /sst HTTP/1.1", *LINES[2:], VERSION), "400 Bad Request", "HTTP"),
        (http(LINES[0], "Host: xn--zz--\xff", *LINES[2:], VERSION), "400 Bad Request", "Host"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400 Bad Request", "HTTP"),
        (http(*LINES, VERSION, f"X: {40000 * 'x'}"), "400 Bad Request", "HTTP"),
    ],
)
@in_trio_without_waiting
async def test_what_is_refused_gets_a_status_and_a_sentence(request_: bytes, status: str, sentence: str) -> None:
    said, failure = await answered(request_)
    head, _, body = said.partition("\r\n\r\n")
    assert head.split(" ", 1)[1].startswith(status.split()[0])
    assert f"Content-Length: {len(body)}" in head
    assert sentence in body
    assert failure.startswith(f"client:1 was answered {status} to its WebSocket request: ")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (("Authorization: Bearer x",), "101"),
        (("authorization: Bearer x", "X: y"), "101"),
        (("Authorization: Bearer y", "Authorization: Bearer x"), "101"),
        (("Authorization: Bearer xx",), "403"),
        (("Authorization: bearer x",), "403"),
        ((), "403"),
    ],
)
@in_trio_without_waiting
async def test_a_demanded_header_must_be_there_as_it_was_given(given: tuple[str, ...], status: str) -> None:
    said, failure = await answered(http(*LINES, VERSION, *given), parse_headers("Authorization: Bearer x"))
    assert said.startswith(f"HTTP/1.1 {status} ")
    assert "Bearer" not in said + failure


@in_trio_without_waiting
async def test_a_host_that_is_not_the_demanded_one_is_misdirected() -> None:
    demanded = parse_headers("host: edge.example")
    assert (await answered(http(*LINES, VERSION), demanded))[0].startswith("HTTP/1.1 101 ")
    said, failure = await answered(http(LINES[0], "Host: other", *LINES[2:], VERSION), demanded)
    assert said.startswith("HTTP/1.1 421 ")
    assert "421 Misdirected Request" in failure


@in_trio_without_waiting
async def test_who_is_refused_sees_the_end_at_once_but_may_take_time_to_leave() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(failing_answer, ours)
        await theirs.send_all(http("GET / HTTP/1.1", *LINES[1:], VERSION))
        while await theirs.receive_some(8192):
            pass
        assert trio.current_time() == 0
    assert trio.current_time() == 1


async def failing_answer(stream: trio.abc.HalfCloseableStream) -> None:
    with pytest.raises(TransportError):
        await answer(stream, "client:1", "/sst", ())


@pytest.mark.parametrize("sent", [b"", http(*LINES)[:-2]])
@in_trio_without_waiting
async def test_who_leaves_before_the_request_is_complete_is_let_go(sent: bytes) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(sent)
    await theirs.aclose()
    with pytest.raises(TransportError, match="closed the connection before it had asked for a WebSocket"):
        await answer(ours, "client:1", "/sst", ())


# The client's side.


async def refused_by(said: bytes, headers: Headers = ()) -> str:
    """How our request fails when a server says this, and then nothing more."""
    ours, theirs = memory_stream_pair()

    async def serve() -> None:
        await theirs.receive_some(8192)
        await theirs.send_all(said)
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(TransportError) as caught:
            await ask(ours, EDGE, headers)
    return str(caught.value)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (http("HTTP/1.1 403 No Way", "Content-Length: 0"), "answered 403 Forbidden to the WebSocket request for /sst"),
        (http("HTTP/1.1 404 x", "Content-Length: 5") + b"never", "answered 404 Not Found to"),
        (http("HTTP/1.1 200 OK", "Content-Length: 9"), "answered 200 OK to"),
        (http("HTTP/1.1 302 Found", "Location: /x", "Content-Length: 0"), "name that place instead"),
        (http("HTTP/1.1 599 ?", "Content-Length: 0"), "answered 599 to"),
        (http("HTTP/1.1 103 Early"), "answered 103 Early Hints to"),
        (http("HTTP/1.1 101 x", *LINES[2:4], "Sec-WebSocket-Accept: wrong"), "wrongly (Bad accept token)"),
        (http("HTTP/1.1 101 x", *LINES[2:4], "Sec-WebSocket-Protocol: \xff"), "wrongly"),
        (http("HTTP/1.1 101 x"), "wrongly (Missing header"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "wrongly (Bad HTTP message)"),
        (b"HTTP/1.1 200 OK\r\nX: " + 100_000 * b"x", "wrongly (Bad HTTP message)"),
        (b"", "closed the connection instead of answering"),
    ],
)
@in_trio_without_waiting
async def test_a_server_that_gives_no_web_socket_is_named_with_what_it_said(said: bytes, expected: str) -> None:
    failure = await refused_by(said)
    assert failure.startswith("edge.example:8080 ")
    assert expected in failure
    assert "query" not in failure


@in_trio_without_waiting
async def test_the_request_holds_the_host_the_query_and_the_headers() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, ours, EDGE, parse_headers("Authorization: Bearer x"))
        lines = (await theirs.receive_some(8192)).decode().split("\r\n")
        nursery.cancel_scope.cancel()
    assert lines[0] == "GET /sst?query=1 HTTP/1.1"
    assert "Host: edge.example:8080" in lines
    assert "Authorization: Bearer x" in lines


@pytest.mark.parametrize(
    ("server", "secure", "host"),
    [
        (TcpEndpoint("edge.example", 443), True, "edge.example"),
        (TcpEndpoint("edge.example", 80), False, "edge.example"),
        (TcpEndpoint("edge.example", 443), False, "edge.example:443"),
        (TcpEndpoint("::1", 80), False, "[::1]"),
        (TcpEndpoint("münchen.example", 8080), False, "xn--mnchen-3ya.example:8080"),
    ],
)
@in_trio_without_waiting
async def test_the_host_is_written_as_servers_expect_it(server: TcpEndpoint, secure: bool, host: str) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, ours, WebSocketEndpoint(server, "/", secure), ())
        lines = (await theirs.receive_some(8192)).decode().split("\r\n")
        nursery.cancel_scope.cancel()
    assert [line for line in lines if line.startswith("Host:")] == [f"Host: {host}"]


@in_trio_without_waiting
async def test_a_host_header_stands_in_the_place_of_the_server_s_name() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(ask, ours, EDGE, parse_headers("Host: other.example")))
        lines = (await theirs.receive_some(8192)).decode().split("\r\n")
        nursery.cancel_scope.cancel()
    assert [line for line in lines if line.startswith("Host:")] == ["Host: other.example"]
