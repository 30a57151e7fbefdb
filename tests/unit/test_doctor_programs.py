"""What doctor says of the server, the programs that it runs, and the port."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.ports import free_port
from pytunnel.certs.access import find_reader, ourselves
from pytunnel.certs.findings import Level
from pytunnel.doctor.port import Attempt, check_everywhere, check_port, examine_port
from pytunnel.doctor.programs import (
    Answer,
    SearchPath,
    check_absence,
    check_answer,
    check_rsync,
    examine_method,
    examine_option_reader,
    examine_rsync,
    find_runner,
    parse_rsync_version,
)
from pytunnel.doctor.server import RunningServer, ServerVersion, find_running, parse_path, parse_version, pid_file
from pytunnel.sst.address import Address
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions
from tests.support.concurrency import in_trio
from tests.support.options import options

ASSUMED, KNOWN = SearchPath("/usr/bin", known=False), SearchPath("/usr/bin", known=True)
NAME = "wsrep_sst_rsync_tunnel"
ROOT = os.geteuid() == 0
TAKEN = TransportError("taken", port_taken=True)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everyone may enter; pytest's own is closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def program(folder: Path, name: str, text: str, mode: int = 0o755) -> SearchPath:
    """Put a shell script into `folder`; the path that leads there."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(mode)
    return SearchPath(str(folder), known=True)


def test_rsync_s_version_is_read() -> None:
    assert parse_rsync_version("rsync  version 3.2.7  protocol version 31\nCopyright") == (3, 2, 7)
    assert parse_rsync_version("rsync version v3.4.1 protocol version 32") == (3, 4, 1)
    assert parse_rsync_version("openrsync: protocol version 29") is None


@pytest.mark.parametrize(
    ("version", "level"), [((3, 2, 7), Level.OK), ((3, 0, 9), Level.WARNING), (None, Level.WARNING)]
)
def test_an_rsync_that_is_old_or_strange_is_warned_of(version: tuple[int, int, int] | None, level: Level) -> None:
    assert check_rsync("/usr/bin/rsync", version).level is level


def test_a_missing_rsync_is_a_fault(tmp_path: Path) -> None:
    assert examine_rsync(SearchPath(str(tmp_path), known=True), ourselves()).level is Level.FAULT


def test_a_missing_my_print_defaults_is_a_fault(tmp_path: Path) -> None:
    assert examine_option_reader(SearchPath(str(tmp_path), known=True)).level is Level.FAULT


def test_a_method_that_runs_is_ok(tmp_path: Path) -> None:
    search = program(tmp_path, NAME, "echo pytunnel 1.0")
    found = examine_method("rsync_tunnel", search, ourselves())
    assert (found.level, "pytunnel 1.0" in found.text) == (Level.OK, True)


def test_a_method_that_does_not_run_is_a_fault_with_its_last_words() -> None:
    found = check_answer("/usr/bin/x", Answer(1, "", "Traceback\nModuleNotFoundError: trio\n"))
    assert (found.level, "ModuleNotFoundError: trio" in found.text) == (Level.FAULT, True)


def test_another_program_of_the_method_s_name_is_not_run(tmp_path: Path) -> None:
    search = program(tmp_path, NAME, f"touch {tmp_path}/was-run; socat")
    found = examine_method("rsync_tunnel", search, ourselves())
    assert (found.level, "socat script" in found.text) == (Level.WARNING, True)
    assert not (tmp_path / "was-run").exists()


def test_a_method_of_the_server_s_own_need_only_be_there(tmp_path: Path) -> None:
    search = program(tmp_path, "wsrep_sst_mariabackup", f"touch {tmp_path}/was-run")
    assert examine_method("mariabackup", search, ourselves()).level is Level.OK
    assert not (tmp_path / "was-run").exists()


def test_a_method_that_is_not_executable_is_a_fault(tmp_path: Path) -> None:
    search = program(tmp_path, NAME, "pytunnel", mode=0o644)
    found = examine_method("rsync_tunnel", search, ourselves())
    assert (found.level, found.advice) == (Level.FAULT, f"run: chmod a+x {tmp_path}/{NAME}")


def test_a_link_to_a_method_that_is_not_executable_is_not_followed_blindly(tmp_path: Path) -> None:
    program(tmp_path, "elsewhere", "pytunnel", mode=0o644)
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    found = examine_method("rsync_tunnel", SearchPath(str(tmp_path), known=True), ourselves())
    assert found.advice == f"run: chmod a+x {tmp_path}/elsewhere"


def test_a_method_that_the_server_s_user_can_not_read_is_a_fault(open_directory: Path) -> None:
    search = program(open_directory, NAME, "echo pytunnel 1.0", mode=0o711 if ROOT else 0o311)
    found = examine_method("rsync_tunnel", search, find_reader("nobody") if ROOT else ourselves())
    assert (found.level, "can't be read" in found.text, "Permission denied" in found.text) == (Level.FAULT, True, True)


def test_who_is_not_root_runs_the_programs_where_the_server_s_user_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert find_runner(None) is not None


def test_a_path_without_measure_is_not_searched() -> None:
    assert parse_path(b"PATH=" + 9000 * b"/:") is None


@pytest.mark.parametrize(
    ("name", "advice"), [(NAME, "ln -s /opt/pytunnel/"), ("wsrep_sst_clone", "install the package")]
)
def test_a_method_that_is_nowhere_is_a_fault(name: str, advice: str) -> None:
    found = check_absence(name, ASSUMED, None, None)
    assert (found.level, advice in found.advice) == (Level.FAULT, True)


@pytest.mark.parametrize(("search", "level"), [(KNOWN, Level.FAULT), (ASSUMED, Level.WARNING)])
def test_a_method_on_our_path_alone_needs_a_link(search: SearchPath, level: Level) -> None:
    found = check_absence(NAME, search, None, f"/opt/p/{NAME}")
    assert (found.level, found.advice) == (level, f"link it: ln -s /opt/p/{NAME} /usr/bin/")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu", ServerVersion(True, (10, 11))),
        ("/usr/sbin/mysqld  Ver 8.0.36-28.1 for Linux (Percona XtraDB Cluster)", ServerVersion(False, (8, 0))),
        ("what?", None),
    ],
)
def test_the_server_s_version_is_read(text: str, version: ServerVersion | None) -> None:
    assert parse_version(text) == version


def test_the_pid_file_is_where_the_options_say() -> None:
    assert pid_file(options("pid-file=/run/m.pid"), Path("/db"), "node1.my.cluster") == Path("/run/m.pid")
    assert pid_file(options("pid-file=m.pid"), Path("/db"), "node1.my.cluster") == Path("/db/m.pid")
    assert pid_file(options(), Path("/db"), "node1.my.cluster") == Path("/db/node1.pid")


def test_a_process_that_is_no_server_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "m.pid").write_text(f"{os.getpid()}\n")
    assert find_running(options("pid-file=m.pid"), tmp_path, None) is None


def test_a_pid_file_that_is_missing_or_broken_means_no_server(tmp_path: Path) -> None:
    (tmp_path / "m.pid").write_text("none")
    assert find_running(options("pid-file=m.pid"), tmp_path, None) is None
    assert find_running(options("pid-file=missing.pid"), tmp_path, None) is None


def test_the_server_s_path_is_read_from_its_environment() -> None:
    assert parse_path(b"HOME=/\0PATH=/usr/bin:/bin\0MANPATH=/x\0") == "/usr/bin:/bin"
    assert parse_path(b"") is None


def test_a_free_port_is_ok() -> None:
    assert check_port(Attempt("node1:4444"), transferring=False, running=None).level is Level.OK


def test_a_port_that_another_program_has_is_a_fault() -> None:
    found = check_port(Attempt("node1:4444", TAKEN), transferring=False, running=None)
    assert (found.level, "another program" in found.text) == (Level.FAULT, True)


def test_a_port_that_a_transfer_has_is_ok() -> None:
    found = check_port(Attempt("node1:4444", TAKEN), transferring=True, running=RunningServer(1, None))
    assert (found.level, "state transfer that is running" in found.text) == (Level.OK, True)


def test_a_port_that_is_taken_while_the_server_runs_is_a_warning_that_says_so() -> None:
    found = check_port(Attempt("node1:4444", TAKEN), transferring=False, running=RunningServer(77, None))
    assert (found.level, "the server runs (process 77)" in found.text) == (Level.WARNING, True)


def test_an_address_of_another_host_is_a_warning() -> None:
    found = check_everywhere(Attempt("192.0.2.1:4444", TransportError("no")), Attempt(":4444"))
    assert (found.level, "NAT" in found.advice) == (Level.WARNING, True)


def test_a_port_that_is_taken_on_all_addresses_is_a_fault() -> None:
    found = check_everywhere(Attempt("192.0.2.1:4444", TransportError("no")), Attempt(":4444", TAKEN))
    assert found.level is Level.FAULT


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_a_listener_on_the_port_is_found(taken_port: int, tmp_path: Path) -> None:
    @in_trio
    async def check() -> None:
        found = await examine_port(Address("127.0.0.1", taken_port), SocketOptions(), tmp_path, None)
        assert found.level is Level.FAULT

    check()


def test_the_port_is_free_again_after_the_check(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")

    @in_trio
    async def check() -> None:
        for _ in range(2):
            found = await examine_port(Address("127.0.0.1", port), SocketOptions(), tmp_path, None)
            assert found.level is Level.OK

    check()
