"""The benchmark's own loads in tiny sizes: whatever the tunnel, every byte arrives. No timing decides anything."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import (
    BenchError,
    datadir,
    far,
    handshakes,
    memory,
    pattern,
    peers,
    processes,
    snapshots,
    source,
    streams,
)
from bench.credentials import KEYS, Ends, make_ends
from bench.datadir import Shape
from bench.peers import Peer
from bench.protocol import Header
from bench.sink import serve
from tests.support.programs import needs
from tests.support.sst import PlayedServer

TUNNELS = [pytest.param(peer, marks=needs(*filter(None, [peer.program])), id=peer.name) for peer in peers.ALL]
TUNNELS.append(pytest.param(peers.WORKERS, id="workers"))
TUNNELS.append(pytest.param(peers.WEB_SOCKET, id=peers.WEB_SOCKET.name))
PYTUNNEL_AND_SOCAT = [TUNNELS[peers.ALL.index(peer)] for peer in (peers.PYTUNNEL, peers.SOCAT)]
SNAPSHOT_WAYS = [
    pytest.param(peer, marks=needs("rsync", "my_print_defaults", *filter(None, [peer.program])), id=peer.name)
    for peer in (peers.PYTUNNEL, snapshots.NO_TUNNEL, peers.SOCAT, peers.STUNNEL)
]
SHAPE = Shape("tiny", 1_000_003, 900_007, 5)


@pytest.fixture(name="ends", scope="module")
def fixture_ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    return make_ends(tmp_path_factory.mktemp("ends"), "ecdsa")


@pytest.fixture(name="port")
def fixture_port() -> Iterator[int]:
    """A sink in a thread of the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("peer", TUNNELS)
@pytest.mark.parametrize("count", streams.COUNTS)
def test_every_byte_of_every_stream_arrives(ends: Ends, peer: Peer, count: int) -> None:
    figures = streams.move(ends, count, 4_000_037, peer)
    assert figures[streams.THROUGHPUT] > 0


@pytest.mark.parametrize("peer", PYTUNNEL_AND_SOCAT)
@pytest.mark.parametrize("kind", KEYS)
def test_every_new_connection_is_answered(tmp_path: Path, peer: Peer, kind: str) -> None:
    figures = handshakes.connect(make_ends(tmp_path, kind), 40, 32, peer)
    assert figures[handshakes.RATE] > 0


@pytest.mark.parametrize("peer", PYTUNNEL_AND_SOCAT)
def test_open_connections_have_carried_their_bytes(ends: Ends, peer: Peer) -> None:
    figures = memory.hold(ends, 20, peer)
    assert figures[memory.PROCESSES] == (1 if peer is peers.PYTUNNEL else 21)


@needs("rsync", "my_print_defaults")
@pytest.mark.parametrize("way", far.WAYS[2:], ids=lambda way: way.name)
def test_every_file_arrives_in_a_far_region(
    ends: Ends, way: far.Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far, "DELAY", 0.001)  # not so far that the test takes long
    donor = PlayedServer(tmp_path / "donor")
    donor.use(ends.client.identity, [ends.client.identity, ends.server.identity])
    far.fill(donor.datadir, 2_000_000, changed=False)
    figures = far.transfer(donor, ends, datadir.digests(donor.datadir), way, 2_000_000)
    assert (figures[far.SENT] > 2) == (way in far.WAYS[:3])


@pytest.mark.parametrize("peer", SNAPSHOT_WAYS)
def test_every_file_of_a_snapshot_arrives(ends: Ends, peer: Peer) -> None:
    with snapshots.donor_with(SHAPE, ends) as donor:
        expected = datadir.digests(donor.datadir)
        assert len(expected) == 4 + 4 + 5 * 8
        figures = snapshots.transfer(donor, ends, expected, peer)
    assert figures[snapshots.SECONDS] > 0


@needs("rsync", "my_print_defaults")
def test_a_snapshot_with_another_file_is_noticed(ends: Ends) -> None:
    with snapshots.donor_with(SHAPE, ends) as donor:
        expected = datadir.digests(donor.datadir) | {"big/table0.ibd": "another digest"}
        with pytest.raises(BenchError, match="not what was sent"):
            snapshots.transfer(donor, ends, expected, snapshots.NO_TUNNEL)


@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_the_sink_notices_a_byte_that_is(port: int, damage: str) -> None:
    size = 300_000
    data = bytearray(bytes(pattern.piece(0, 200_000)) + bytes(pattern.piece(200_000, 100_000)))
    if damage == "changed":
        data[250_000] ^= 1
    else:
        del data[0]
        data += b"\0"
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(Header(0, size).encode() + data)
        with pytest.raises(BenchError, match="other bytes than were sent"):
            source.check(source.read_verdict(connection), size)


def test_processor_time_of_children_that_have_ended_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    started = f"subprocess.run([sys.executable, '-c', {burn!r}])"
    parent = f"import subprocess, sys; {started}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        assert processes.cpu_seconds([process.pid]) >= 0.3
        process.kill()
