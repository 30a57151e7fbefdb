"""Whether the server's user can read a file."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytunnel.certs.access import Reader, check_access, find_reader
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


@pytest.mark.skipif(ROOT, reason="root may ask in every user's name")
def test_only_root_can_ask_in_another_user_s_name() -> None:
    with pytest.raises(CertsError, match="run this with sudo"):
        find_reader("root")
