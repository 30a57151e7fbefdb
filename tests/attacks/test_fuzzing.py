"""Whatever is read from outside, in any shape: an answer or one of our errors, no other exception, no wrong data.

Each parser has its own properties beside its other tests; here all of them meet text that is nearly right. The TLS
stream meets records that are cut, dropped, doubled and reordered in any way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from trio.testing import memory_stream_pair

from lab.certificates import authority, issued, revoking
from pytunnel.errors import PytunnelError
from pytunnel.sockopt.words import parse_sockopt
from pytunnel.sst import address, optionfile, plan, request, state
from pytunnel.sst.manifest import Amount
from pytunnel.status.address import parse_status_address
from pytunnel.tls.context import Side
from pytunnel.tls.credentials import read_certificates, read_key, read_lists
from pytunnel.tls.errors import TlsError
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.stream import TlsStream
from pytunnel.transport.endpoint import parse_endpoint
from pytunnel.tunnel.http_connect import parse_allowed
from tests.support.concurrency import in_trio_without_waiting
from tests.support.credentials import context_of
from tests.support.handshakes import shake_hands, stream_pair

CA = authority("Authority")
NODE1, NODE2 = issued(CA, "node1"), issued(CA, "node2")
SERVER, CLIENT = context_of(NODE1, [CA]), context_of(NODE2, [CA])
CLIENT_1_2 = context_of(NODE2, [CA], maximum="1.2")


def edited(seeds: list[str]) -> st.SearchStrategy[str]:
    """Texts that were right before somebody cut, doubled or wrote into them; and some that never were."""

    @st.composite
    def edit(draw: st.DrawFn) -> str:
        text = draw(st.sampled_from(seeds))
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(text)))
            end = draw(st.integers(start, min(len(text), start + 8)))
            text = text[:start] + draw(st.text(max_size=6) | st.just(text[start:end] * 2)) + text[end:]
        return text

    return edit() | st.text(max_size=60)


PARSERS: dict[str, tuple[Callable[[str], object], list[str]]] = {
    "endpoint": (
        parse_endpoint,
        ["node2.my.cluster:4444", "[::1]:1", ":65535", "unix:/run/x", "exec:cat 'a b'", "wss://h:1/p?q=1"],
    ),
    "status address": (parse_status_address, [":9100", "127.0.0.1:1", "unix:/run/x"]),
    "allowed target": (parse_allowed, ["node2.my.cluster:4444", "*.my.cluster:1", "10.0.0.1:5"]),
    "sockopt": (parse_sockopt, ['nodelay,keepalive,commonname="a,b",verify=0', "pf=ip6,retry=3,range=10.0.0.0/8"]),
    "address": (address.parse_address, ["node2:4444/rsync_tunnel_sst/1/2", "[::1]:4444", "10.0.0.1"]),
    "state": (state.parse_state, ["0d461b48-e638-11f1-b5bf-7b336a8bfa1f:16 0\nsecret abc\nbypass\n"]),
    "plan": (plan.parse_plan, [plan.format_plan(Amount(5, 6))]),
    "option file": (
        lambda text: list(optionfile.parse_output(text.encode(errors="surrogateescape"))),
        ["--tcert=/a b\n--loose_tca=x\n--skip-log-bin\n"],
    ),
    "call": (
        lambda text: request.parse_request(text.split("|"), {}),
        ["--role|joiner|--address|h:1|--datadir|/d|--mysqld-args|--port=1|-h/x", "--role|donor|--gtid|x"],
    ),
}


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_text_is_understood_or_refused_with_our_words(name: str, data: st.DataObject) -> None:
    parse, seeds = PARSERS[name]
    text = data.draw(edited(seeds))
    refusal = "expected"
    try:
        parse(text)
    except PytunnelError as error:
        refusal = f"expected or not: {error}"
    except ValueError as error:  # of options, whose reader puts the option's name before it
        refusal = str(error)
    assert refusal.startswith("expected")


PEM = (NODE1.combined_pem() + CA.certificate_pem() + revoking(CA, [NODE2])).decode()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(edited([PEM, NODE1.certificate_pem().decode(), NODE1.key_pem().decode()]))
def test_any_certificate_key_or_revocation_file_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.pem"
    path.write_bytes(text.encode(errors="surrogatepass"))
    for read in (read_certificates, read_lists, lambda path: read_key(path, combined=True)):
        refusal = str(path)
        try:
            read(path)
        except TlsError as error:
            refusal = str(error)
        assert str(path) in refusal


# TLS.


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6), st.sampled_from(list(Side)))
@in_trio_without_waiting
async def test_any_bytes_instead_of_a_handshake_are_an_error(pieces: list[bytes], side: Side) -> None:
    ours, theirs = memory_stream_pair()
    stream = TlsStream(ours, SERVER if side is Side.SERVER else CLIENT, side, place="the peer", expected=ExpectedPeer())
    async with trio.open_nursery() as nursery:

        async def attack() -> None:
            for piece in pieces:
                await theirs.send_all(piece or b"\x16")
            await theirs.send_eof()

        nursery.start_soon(attack)
        with pytest.raises(TlsError):
            await stream.handshake()


def records_of(ciphertext: bytes) -> list[bytes]:
    """A stream cut into its records."""
    found, place = [], 0
    while place < len(ciphertext):
        end = place + 5 + int.from_bytes(ciphertext[place + 3 : place + 5])
        found.append(ciphertext[place:end])
        place = end
    return found


kinds = st.sampled_from(["drop", "double", "swap", "cut", "junk"])
moves = st.lists(st.tuples(kinds, st.integers(0, 11)), max_size=3)
contents = st.lists(st.integers(1, 20_000), min_size=1, max_size=4)


@settings(max_examples=70, deadline=None)
@given(contents, moves, st.integers(1, 30_000), st.sampled_from([CLIENT, CLIENT_1_2]))
@in_trio_without_waiting
async def test_records_in_any_disorder_give_a_beginning_of_what_was_sent_and_no_false_end(
    sizes: list[int], changes: list[tuple[str, int]], step: int, client: SSL.Context
) -> None:
    ours, theirs = memory_stream_pair()
    writer, reader = stream_pair(SERVER, client, transports=(ours, theirs))
    await shake_hands(writer, reader)
    said = bytes(number % 251 for number in range(sum(sizes)))
    sent = bytearray()
    recorded, wire = memory_stream_pair()
    writer.transport = recorded
    for size in sizes:
        await writer.send_all(said[len(sent) : len(sent) + size])
        sent += said[len(sent) : len(sent) + size]
    await writer.send_eof()
    await recorded.aclose()
    original = b""
    while piece := await wire.receive_some():
        original += bytes(piece)
    changed = b"".join(disordered(records_of(original), changes))
    for place in range(0, len(changed), step):
        await ours.send_all(changed[place : place + step])
    await ours.send_eof()
    received, ended = bytearray(), False
    try:
        while data := await reader.receive_some():
            received += data
        ended = True
    except TlsError:
        pass
    assert said.startswith(bytes(received))
    if ended:
        assert bytes(received) == said, "an end of file before all was there"
    assert ended or changed != original


def disordered(records: list[bytes], changes: list[tuple[str, int]]) -> list[bytes]:
    """The records after these changes, each at a place of its own."""
    for change, number in changes:
        place = number % len(records)
        record = records[place]
        match change:
            case "drop":
                records = records[:place] + records[place + 1 :]
            case "double":
                records = [*records[: place + 1], record, *records[place + 1 :]]
            case "swap":
                records = [*records[:place], *records[place : place + 2][::-1], *records[place + 2 :]]
            case "cut":
                records = [*records[:place], record[: len(record) // 2]]
            case "junk":
                records = [*records[:place], b"\x17\x03\x03\x00\x20" + bytes(32), *records[place:]]
        if not records:
            return []
    return records
