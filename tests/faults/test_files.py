"""Full disks, programs of other versions, wrong clocks, names that nobody resolves, no descriptors, old remains."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.certificates import expired, self_signed
from lab.hosts import can_make_namespaces
from lab.ports import free_port
from lab.waiting import until
from tests.cluster.conftest import unavailable
from tests.faults.nodes import (
    MEGABYTE,
    assert_arrived,
    assert_failed,
    assert_next_one_succeeds,
    assert_nothing_left,
    assert_withheld,
    retries,
    transfer,
    transfer_midway,
)
from tests.support.programs import needs
from tests.support.sst import DOMAIN, GTID, IMPATIENT, LIMIT, POSITION, PlayedServer, Run

pytestmark = needs("rsync", "my_print_defaults")

_OLD_RSYNC = """#!/bin/sh
echo '@RSYNCD: 19.0'
read -r greeting
read -r wanted
case "$wanted" in
    '' | '#list') printf '%s\\t\\n' rsync_tunnel_sst rsync_tunnel_sst-plan; echo '@RSYNCD: EXIT' ;;
    *) echo '@RSYNCD: OK'; cat >/dev/null ;;
esac
"""

# A name server that is reached, for packets at least, but that nobody is.
_UNANSWERED = """
ip link add name near type veth peer name far
ip address add 192.0.2.1/24 dev near
ip link set near up
ip link set far up
ip neighbour add 192.0.2.53 lladdr 02:00:00:00:00:53 dev near
mount --bind {} /etc/resolv.conf
exec "$@"
"""


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[None]:
    """Put a file system of `size` bytes at `directory`."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True, timeout=LIMIT).returncode != 0:
        pytest.skip("file systems can't be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True, timeout=LIMIT)


def test_a_disk_that_is_full_ends_both_with_the_reason(joiner: PlayedServer, donor: PlayedServer) -> None:
    with small_disk(joiner.datadir, 8 * MEGABYTE):
        with transfer(joiner, donor) as (sending, receiving):
            assert_failed(sending, "No space left on device")
            assert_failed(receiving, "No space left on device")
        assert retries(sending) == []
        assert_nothing_left(joiner, donor)
        assert_withheld(joiner)
    assert_next_one_succeeds(joiner, donor)


def test_an_rsync_that_is_too_old_is_told_before_the_flush(joiner: PlayedServer, donor: PlayedServer) -> None:
    programs = joiner.root / "bin"
    programs.mkdir()
    (programs / "rsync").write_text(_OLD_RSYNC)
    (programs / "rsync").chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    receiving = joiner.start("joiner", f"127.0.0.1:{free_port('127.0.0.1')}", environment=path)
    sending = donor.start_donor(receiving.ready())
    assert_failed(sending, "the two rsync versions can't talk to each other")
    receiving.process.kill()


def test_a_clock_that_is_years_off_is_told_before_anything_listens(joiner: PlayedServer) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        unavailable("not installed: libfaketime; on Debian: apt-get install libfaketime")
    wrong = {"LD_PRELOAD": str(library), "FAKETIME": "-30y", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    run = joiner.start("joiner", f"127.0.0.1:{free_port('127.0.0.1')}", environment=wrong)
    assert_failed(run, "is the clock right?")


def test_a_certificate_that_ran_out_is_told_before_anything_listens(joiner: PlayedServer) -> None:
    authority = self_signed("authority")
    joiner.use(expired(authority, "localhost"), [authority])
    assert_failed(joiner.start_joiner(), "expired on")


def test_dns_that_does_not_answer_ends_a_donor_in_time(joiner: PlayedServer, donor: PlayedServer) -> None:
    if not can_make_namespaces():
        pytest.skip("needs network namespaces: run the tests as root, outside of a confined container")
    donor.program = IMPATIENT
    resolver = donor.root / "resolv.conf"
    resolver.write_text("nameserver 192.0.2.53\noptions timeout:20 attempts:5\n")
    donor.prefix = ("unshare", "--net", "--mount", "sh", "-ec", _UNANSWERED.format(resolver), "sh")
    begun = time.monotonic()
    run = donor.start("donor", "node7.elsewhere:4444/rsync_tunnel_sst", "--gtid", GTID, "--gtid-domain-id", DOMAIN)
    assert_failed(run, "the name node7.elsewhere could not be resolved")
    assert time.monotonic() - begun < LIMIT
    assert_nothing_left(donor)


def test_what_a_reboot_midway_left_is_recognised_and_kills_nobody(joiner: PlayedServer, donor: PlayedServer) -> None:
    stranger = subprocess.Popen(["sleep", "60"])  # has the number that a program of ours had before the reboot
    try:
        for server in (joiner, donor):
            (server.datadir / "wsrep_sst.pid").write_text(f"{stranger.pid}\n")
            (server.datadir / "wsrep_sst_binlog.tar").write_text("half a")
        (donor.datadir / "tables_flushed").write_text(f"{POSITION}\n")
        (joiner.datadir / "sst_in_progress").touch()
        (joiner.datadir / "rsync_tunnel_sst_complete").write_text(f"{POSITION}\nsecret of-another-transfer\n")
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(joiner.datadir / "wsrep_sst_status.sock"))
        assert_next_one_succeeds(joiner, donor)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(LIMIT)


def test_a_second_transfer_waits_for_the_first_ones_end(joiner: PlayedServer) -> None:
    first = joiner.start_joiner()
    ready = first.ready()
    second = joiner.start_joiner()
    first.process.send_signal(signal.SIGTERM)
    assert_failed(first, "ended by SIGTERM")
    assert second.ready().port != ready.port
    second.process.send_signal(signal.SIGTERM)
    assert_failed(second, "ended by SIGTERM")
    assert_nothing_left(joiner)


def test_a_joiner_without_descriptors_gets_each_stream_later(joiner: PlayedServer, donor: PlayedServer) -> None:
    with transfer_midway(joiner, donor) as (sending, receiving):
        with few_descriptors(receiving):
            until(lambda: "Too many open files" in receiving.log, LIMIT, "a connection to find no room")
        assert_arrived(joiner, donor, sending, receiving)


@contextmanager
def few_descriptors(run: Run) -> Iterator[None]:
    """Let the program open no file and no socket more for a while."""
    pid = run.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
