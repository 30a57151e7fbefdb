"""Hours of work in half a minute: of thousands of connections and of transfer after transfer nothing is left."""

from __future__ import annotations

import random
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lab.certificates import self_signed
from lab.processes import mentioning
from lab.waiting import comes_true
from tests.support.ends import Ends
from tests.support.measuring import MEBI, children, open_files, resident
from tests.support.plain import dial, digest, digest_after_end, serving, some_data, talk
from tests.support.programs import needs
from tests.support.sst import POSITION, PlayedServer
from tests.support.tunnels import LIMIT, Program

DATA = some_data(2_000_000)


def one_connection(entrance: int, number: int) -> None:
    """One of many: small or large, ended well, dropped midway or reset."""
    chance = random.Random(number)  # noqa: S311 - variety, not secrets
    size = chance.choice([0, 1, 100, 5_000, 70_000, 2_000_000])
    if number % 4:
        assert talk(entrance, DATA[:size]).decode() == digest(DATA[:size])
        return
    with dial(entrance) as client, suppress(ConnectionError):
        client.sendall(DATA[: size // 2])
        if number % 8:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def digest_unless_broken(connection: socket.socket) -> None:
    with suppress(ConnectionError):
        digest_after_end(connection)


def soak(entrance: int, numbers: range) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda number: one_connection(entrance, number), numbers):
            pass


def assert_as_before(program: Program, files: int, memory: int) -> None:
    pid = program.process.pid
    assert comes_true(lambda: open_files(pid) <= files, LIMIT), f"{open_files(pid)} descriptors, {files} before"
    assert comes_true(lambda: not children(pid), LIMIT)
    assert resident(pid) < memory + 24 * MEBI, f"{(resident(pid) - memory) / MEBI:.0f} MiB more than before"


def test_thousands_of_connections_leave_nothing(ends: Ends) -> None:
    with serving(digest_unless_broken) as server:
        listening, connecting = ends.pair(f"127.0.0.1:{server}")
        files = [open_files(program.process.pid) for program in (listening, connecting)]
        soak(connecting.port, range(200))  # what is allocated once
        memory = [resident(program.process.pid) for program in (listening, connecting)]
        soak(connecting.port, range(200, 1300))
        for program, before, held in zip((listening, connecting), files, memory, strict=True):
            assert_as_before(program, before, held)


def test_hundreds_of_programs_leave_nothing(ends: Ends, tmp_path: Path) -> None:
    listening, connecting = ends.pair("exec:sha256sum")
    files = open_files(listening.process.pid)

    def one(number: int) -> None:
        if number % 3:
            assert digest(DATA[:number]) in talk(connecting.port, DATA[:number]).decode()
        else:
            with dial(connecting.port) as client:
                client.sendall(b"and gone")

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(one, range(300)):
            pass
    assert_as_before(listening, files, resident(listening.process.pid))


@needs("rsync", "my_print_defaults")
def test_transfer_after_transfer_leaves_nothing(tmp_path: Path) -> None:
    identities = [self_signed("localhost"), self_signed("localhost")]
    nodes = [PlayedServer(tmp_path / str(number)).use(own, identities) for number, own in enumerate(identities)]
    for number in range(30):
        schema = nodes[0].datadir / f"schema{number}"
        schema.mkdir()
        (schema / "t.ibd").write_bytes(DATA[: number * 1000])
    for round_number in range(4):
        donor, joiner = nodes if round_number % 2 == 0 else nodes[::-1]
        (donor.datadir / "schema0" / "t.ibd").write_text(f"round {round_number}")
        joining = joiner.start_joiner()
        donating = donor.start_donor(joining.ready(), *(["--bypass"] if round_number == 2 else []))
        if round_number != 2:
            donating.expect("flush tables")
            donor.flush()
        donating.expect("continue")
        donating.expect(f"done {POSITION}")
        joining.expect(POSITION)
        assert (donating.end(), joining.end()) == (0, 0), donating.log + joining.log
        assert [node.remains() for node in nodes] == [[], []]
        assert mentioning(tmp_path) == []
    assert (nodes[1].datadir / "schema29" / "t.ibd").read_bytes() == DATA[:29_000]
