"""Whether the server's user can read a file."""

from __future__ import annotations

import os
import platform
import pwd
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytunnel.certs.access import Reader, advise_owner, check_access, find_reader, ourselves, run_as
from pytunnel.certs.errors import CertsError
from pytunnel.certs.findings import Level

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root can ask in another user's name")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that everyone may enter; pytest's own is closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def nobody() -> Reader:
    return find_reader("nobody")


def make(path: Path, mode: int) -> Path:
    path.write_text("PEM")
    path.chmod(mode)
    return path


def reasons(path: Path, reader: Reader) -> list[str]:
    findings = check_access(path, reader)
    assert all(finding.level is Level.FAULT for finding in findings)
    return [finding.text for finding in findings]


def test_a_file_that_we_can_read_ourselves_is_fine(folder: Path) -> None:
    own = find_reader(pwd.getpwuid(os.geteuid()).pw_name)
    assert check_access(make(folder / "a.key", 0o600), own) == []


@needs_root
def test_a_file_that_everyone_can_read_is_fine(folder: Path, nobody: Reader) -> None:
    assert check_access(make(folder / "a.crt", 0o644), nobody) == []


@needs_root
def test_a_key_of_root_s_is_a_fault_with_the_command_that_mends_it(folder: Path, nobody: Reader) -> None:
    path = make(folder / "a.key", 0o600)
    assert reasons(path, nobody) == [
        f"the user nobody can't read {path} (owner root, mode 0600); run: chown nobody {path}"
    ]
    os.chown(path, nobody.uid, -1)
    assert check_access(path, nobody) == []


@needs_root
def test_a_file_of_a_group_that_the_user_is_in_is_fine(folder: Path, nobody: Reader) -> None:
    path = make(folder / "a.key", 0o640)
    os.chown(path, 0, 54321)
    assert check_access(path, nobody) != []
    assert check_access(path, Reader(nobody.name, nobody.uid, nobody.gid, (nobody.gid, 54321))) == []


@needs_root
def test_the_directory_that_is_closed_is_named(folder: Path, nobody: Reader) -> None:
    closed = folder / "closed"
    (closed / "open").mkdir(parents=True)
    path = make(closed / "open" / "a.crt", 0o644)
    closed.chmod(0o700)
    assert reasons(path, nobody) == [
        f"the user nobody can't read it, because the directory {closed} is closed to that user"
    ]


@needs_root
def test_every_file_of_a_ca_directory_counts(folder: Path, nobody: Reader) -> None:
    make(folder / "a.crt", 0o644)
    assert check_access(folder, nobody) == []
    make(folder / "b.crt", 0o600)
    assert "b.crt (owner root, mode 0600)" in reasons(folder, nobody)[0]
    folder.chmod(0o711)
    assert reasons(folder, nobody) == ["the directory is closed to the user nobody"]


def test_a_file_that_is_not_there_is_left_to_other_checks(folder: Path) -> None:
    assert check_access(folder / "none", find_reader(pwd.getpwuid(os.geteuid()).pw_name)) == []


def test_a_user_that_does_not_exist_is_named() -> None:
    with pytest.raises(CertsError, match="this host has no user 'no-such-user'"):
        find_reader("no-such-user")


def test_a_link_that_leads_nowhere_is_left_to_other_checks(folder: Path) -> None:
    (folder / "a.crt").symlink_to(folder / "none")
    assert check_access(folder / "a.crt", ourselves()) == []


def test_a_file_is_given_to_a_user_by_a_command_that_can_be_typed() -> None:
    assert advise_owner(Path("/etc/a b;c"), "mysql") == "run: chown mysql '/etc/a b;c'"


def test_no_command_gives_away_what_a_link_leads_to(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/shadow")
    advice = advise_owner(folder / "link", "mysql")
    assert ("chown" in advice, "/etc/shadow" in advice) == (False, True)


def said(*command: str, reader: Reader | None = None, limit: float = 20.0) -> str:
    return run_as(reader or ourselves(), command, limit=limit).stdout.decode()


def test_a_program_has_no_terminal_of_ours() -> None:
    standard_input, line = said("sh", "-c", "readlink /proc/self/fd/0; cat /proc/self/stat").splitlines()
    session, terminal = line.rpartition(")")[2].split()[3:5]
    assert (standard_input, terminal) == ("/dev/null", "0")
    assert int(session) != os.getsid(0)


def test_a_program_sees_nothing_of_our_environment_but_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    names = {line.partition("=")[0] for line in said("env").splitlines()}
    assert names == {"PATH", "LC_ALL"}


@needs_root
def test_a_program_of_another_user_has_that_user_s_groups_alone(nobody: Reader) -> None:
    ours = os.getgroups()
    os.setgroups([54321])
    try:
        assert said("id", "-G", reader=nobody).split() == [str(nobody.gid)]
    finally:
        os.setgroups(ours)


KEEPS_A_KEY = """
import ctypes, sys
from pytunnel.certs.access import find_reader, run_as
library = ctypes.CDLL(None)
joined = library.syscall(250, 1, None)
key = library.syscall(248, b"user", b"secret", b"x", 1, ctypes.c_int(-3))
look = "import ctypes; print(ctypes.CDLL(None).syscall(250, 10, ctypes.c_int(-3), b'user', b'secret', 0))"
found = run_as(find_reader("nobody"), ["/usr/bin/python3", "-c", look], limit=20)
print(joined > 0 and key > 0, int(found.stdout))
"""


@needs_root
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of add_key(2) and keyctl(2) are x86_64's")
def test_a_program_of_another_user_finds_no_key_of_ours() -> None:
    ran = subprocess.run([sys.executable, "-c", KEEPS_A_KEY], capture_output=True, text=True, check=True, timeout=60)
    kept, found = ran.stdout.split()
    if kept != "True":
        pytest.skip("this kernel or container has no keyrings; run the tests on a host that has")
    assert found == "-1"


def test_a_program_that_talks_without_end_is_ended_and_kept_small() -> None:
    assert len(said("head", "-c", "10000000", "/dev/zero")) <= 64 * 1024
    with pytest.raises(subprocess.TimeoutExpired):
        said("yes", limit=0.5)


def test_a_program_that_closes_its_output_is_not_waited_for_without_end() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        said("sh", "-c", "exec >&- 2>&-; sleep 300", limit=0.5)


def test_what_a_program_left_behind_is_ended_and_not_waited_for() -> None:
    left = int(said("sh", "-c", "sleep 300 & echo $!"))
    deadline = time.monotonic() + 20
    while Path(f"/proc/{left}/stat").exists() and ") Z " not in Path(f"/proc/{left}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(ROOT, reason="root may ask in every user's name")
def test_only_root_can_ask_in_another_user_s_name() -> None:
    with pytest.raises(CertsError, match="run this with sudo"):
        find_reader("root")
