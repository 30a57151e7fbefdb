"""The donor's rsync has room to write ahead, where the system lets a parent give it to its child."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab.waiting import until
from pytunnel.system.children import sockets_of
from tests.support.measuring import children
from tests.support.programs import needs
from tests.support.sst import LIMIT, PlayedServer, Run, finish, refused

USUAL = int(Path("/proc/sys/net/core/wmem_default").read_text())


def room_of_rsync(donor: Run) -> list[int]:
    """The sizes in bytes of the send buffers of the Unix sockets that a donor's rsync processes have."""
    processes = [pid for pid in children(donor.process.pid) if name_of(pid) == "rsync"]
    listing = subprocess.run(["ss", "-xamp", "-H"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    lines = [line for line in listing.splitlines() if any(f",pid={pid}," in line for pid in processes)]
    return [int(size) for line in lines for size in re.findall(r"\btb(\d+)", line)]


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""  # it has just ended


@needs("rsync", "my_print_defaults", "ss")
def test_the_donor_s_rsync_may_write_more_than_by_default(joiner: PlayedServer, donor: PlayedServer) -> None:
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready())
    sending.expect("flush tables")
    receiving.process.send_signal(signal.SIGSTOP)  # so that rsync is there until we have looked
    try:
        donor.flush()
        until(lambda: any(size > USUAL for size in room_of_rsync(sending)), LIMIT, "rsync's larger buffers")
    finally:
        receiving.process.send_signal(signal.SIGCONT)
    finish(sending, receiving)


def give(donor: PlayedServer, joiner: PlayedServer, environment: dict[str, str] | None = None) -> str:
    """A whole transfer; the donor's log."""
    receiving = joiner.start_joiner()
    sending = donor.start_donor(receiving.ready(), environment=environment)
    sending.expect("flush tables")
    donor.flush()
    finish(sending, receiving)
    return sending.log


@needs("rsync", "my_print_defaults", "setpriv")
def test_where_that_is_not_permitted_it_is_told_once_and_the_transfer_goes_on(
    joiner: PlayedServer, donor: PlayedServer, tmp_path: Path
) -> None:
    # A program that its user may run and not read can't be traced by it, nor its sockets be taken (ptrace(2)).
    unreadable = tmp_path / "programs" / "rsync"
    unreadable.parent.mkdir()
    shutil.copyfile(shutil.which("rsync") or "", unreadable)
    unreadable.chmod(0o111)
    if os.geteuid() == 0:
        donor.prefix = ("setpriv", "--bounding-set", "-sys_ptrace,-dac_override,-dac_read_search")
    log = give(donor, joiner, {"PATH": f"{unreadable.parent}:{os.environ['PATH']}"})
    assert log.count("rsync's sockets keep the system's buffers (Permission denied)") == 1


@needs("rsync", "my_print_defaults")
def test_under_a_filter_of_system_calls_which_might_end_it_the_donor_does_not_try(
    joiner: PlayedServer, donor: PlayedServer
) -> None:
    donor.prefix = refused("pidfd_getfd", errno.EPERM)
    log = give(donor, joiner)
    assert log.count("rsync's sockets keep the system's buffers (a filter of system calls is in force)") == 1


def test_a_child_s_sockets_are_found_and_can_be_set() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        before = child.stdout.readline()
        for each in sockets_of(child.pid):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, USUAL // 4)
        child.stdin.write("look again\n")
        child.stdin.close()
        after = child.stdout.read()
    assert before.split() == [str(USUAL)] * 2
    assert after.split() == [str(USUAL // 4 * 2)] * 2


def test_another_process_is_none_of_ours() -> None:
    with pytest.raises(ProcessLookupError):
        next(sockets_of(os.getpid()))


PROGRAM = """
import socket, sys
pair = socket.socketpair()
for _ in range(2):
    print(*(end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) for end in pair), flush=True)
    sys.stdin.readline()
"""
