"""A transfer between two played nodes that something happens to, and what must hold afterwards."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import processes
from lab.waiting import until
from tests.support.faulty_relay import faulty_relay
from tests.support.sst import LIMIT, POSITION, PlayedServer, Ready, Run

MEGABYTE = 1 << 20
SIZE = 20 * MEGABYTE
_SNAPSHOT = 90.0  # seconds for all data through the slowest network, 20 by its clock, on a busy machine


@contextmanager
def transfer(joiner: PlayedServer, donor: PlayedServer, *faults: str) -> Iterator[tuple[Run, Run]]:
    """A transfer that begins, by way of a relay with these faults: the donor's run and the joiner's."""
    receiving = joiner.start_joiner()
    ready = receiving.ready()
    with faulty_relay(("127.0.0.1", ready.port), *faults) as port:
        address = ready.address.replace(f":{ready.port}/", f":{port}/")
        sending = donor.start_donor(Ready(address, ready.secret))
        try:
            sending.expect("flush tables")
            donor.flush()
            yield sending, receiving
        finally:
            for run in (sending, receiving):
                run.process.kill()


@contextmanager
def transfer_midway(joiner: PlayedServer, donor: PlayedServer) -> Iterator[tuple[Run, Run]]:
    """A transfer of which a part has arrived, and which takes some seconds more."""
    with transfer(joiner, donor, f"slow={10 * MEGABYTE}") as (sending, receiving):
        until(lambda: begins_anew(joiner.datadir / "shop" / "t.ibd"), LIMIT, "some data")
        yield sending, receiving


def begins_anew(file: Path) -> bool:
    """Whether the beginning of the joiner's file, zeros before, has been overwritten."""
    with file.open("rb") as opened:
        return opened.read(MEGABYTE) != bytes(MEGABYTE)


def assert_arrived(joiner: PlayedServer, donor: PlayedServer, sending: Run, receiving: Run) -> None:
    """Both servers hear of a transfer that ended well, all data is there, and nothing else."""
    sending.expect("continue", _SNAPSHOT)
    sending.expect(f"done {POSITION}")
    receiving.expect(POSITION)
    assert (sending.end(), receiving.end()) == (0, 0)
    assert sending.errors() == receiving.errors() == []
    for name in ("shop/t.ibd", "mysql/db.MAD", "ib_logfile0"):
        assert (joiner.datadir / name).read_bytes() == (donor.datadir / name).read_bytes()
    assert_nothing_left(joiner, donor)


def assert_failed(run: Run, error: str) -> None:
    """It ended with one error line that contains `error`, and told its server of no position."""
    assert run.end() != 0
    (said,) = run.errors()
    assert error in said, run.log
    assert "Traceback" not in run.log
    assert run.line() == ""


def assert_nothing_left(*servers: PlayedServer) -> None:
    """No file, no process of a transfer is left on these nodes."""
    assert [file for server in servers for file in server.remains()] == []
    assert_no_process_left(*servers)


def assert_no_process_left(*servers: PlayedServer) -> None:
    until(lambda: not any(processes.mentioning(server.root) for server in servers), LIMIT, "the processes' end")


def assert_withheld(joiner: PlayedServer) -> None:
    """No server would start here before another transfer."""
    assert not (joiner.datadir / "mysql").exists()
    assert not (joiner.datadir / "ib_logfile0").exists()


def assert_port_closed(ready: Ready) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ready.port), LIMIT)


def assert_next_one_succeeds(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer(joiner, donor) as (sending, receiving):
        assert_arrived(joiner, donor, sending, receiving)


def warnings(run: Run) -> list[str]:
    return re.findall(r"^WSREP_SST: \[WARNING\] (.*) \(\d{8} [\d:.]+\)$", run.log, re.MULTILINE)


def retries(run: Run) -> list[str]:
    """What the donor said of connections that it made anew."""
    return [text for text in warnings(run) if "trying again in" in text]


def sent_bytes(run: Run) -> int:
    found = re.search(r"sent .*\((\d+) bytes\)", run.log)
    assert found is not None, run.log
    return int(found[1])


def rsyncs(server: PlayedServer) -> list[int]:
    """The rsync processes that work for this node, the first one started first."""
    found = processes.mentioning(server.root)
    return sorted(process.pid for process in found if Path(process.command.split(" ")[0]).name == "rsync")
