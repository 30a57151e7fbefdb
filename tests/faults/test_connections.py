"""Connections that are cut, ended, stalled or slow: the stream goes on where it stood, and both servers see nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.faulty_relay import faulty_relay
from tests.support.programs import needs
from tests.support.sst import POSITION, PlayedServer, Ready, Run

pytestmark = needs("rsync", "my_print_defaults")

MEGABYTE = 1 << 20
SIZE = 40 * MEGABYTE


@pytest.fixture(name="donor")
def fixture_donor(tmp_path: Path) -> PlayedServer:
    """A node with one table of random bytes."""
    server = PlayedServer(tmp_path / "donor")
    (server.datadir / "shop").mkdir()
    with Path("/dev/urandom").open("rb") as random, (server.datadir / "shop" / "t.ibd").open("wb") as file:
        file.write(random.read(SIZE))
    return server


@pytest.fixture(name="joiner")
def fixture_joiner(tmp_path: Path, donor: PlayedServer) -> PlayedServer:
    """An empty node; it and the donor trust each other."""
    server = PlayedServer(tmp_path / "joiner")
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor.use(identities[0], identities)
    return server.use(identities[1], identities)


@contextmanager
def transfer_through(joiner: PlayedServer, donor: PlayedServer, *faults: str) -> Iterator[tuple[Run, Run]]:
    """A transfer that has begun, by way of a relay with these faults: the donor's run and the joiner's."""
    receiving = joiner.start_joiner()
    ready = receiving.ready()
    with faulty_relay(("127.0.0.1", ready.port), *faults) as port:
        address = ready.address.replace(f":{ready.port}/", f":{port}/")
        sending = donor.start_donor(Ready(address, ready.secret))
        sending.expect("flush tables")
        donor.flush()
        yield sending, receiving


def assert_arrived(donor: PlayedServer, joiner: PlayedServer, sending: Run, receiving: Run) -> None:
    """Both servers hear of a transfer that ended well, all data is there, and nothing else."""
    sending.expect("continue")
    sending.expect(f"done {POSITION}")
    receiving.expect(POSITION)
    assert (sending.end(), receiving.end()) == (0, 0)
    assert (joiner.datadir / "shop" / "t.ibd").read_bytes() == (donor.datadir / "shop" / "t.ibd").read_bytes()
    assert donor.remains() + joiner.remains() == []


def sent_bytes(run: Run) -> int:
    found = re.search(r"sent .*\((\d+) bytes\)", run.log)
    assert found is not None, run.log
    return int(found[1])


def test_a_connection_that_is_reset_goes_on_where_it_stood(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer_through(joiner, donor, f"cut@{30 * MEGABYTE}") as (sending, receiving):
        assert_arrived(donor, joiner, sending, receiving)
    (warning,) = re.findall(r"\[WARNING\] (a connection failed after .*)", sending.log)
    assert re.match(r"a connection failed after (2\d|3\d)\.\d MiB: .*; trying again in 1 s", warning)
    assert sent_bytes(sending) < SIZE * 1.5
    assert sending.errors() == receiving.errors() == []
