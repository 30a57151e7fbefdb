"""What doctor says of files and directories: who may read, change and write them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytunnel.certs.access import Reader, ourselves
from pytunnel.certs.findings import Level
from pytunnel.doctor.files import (
    NamedDirectory,
    NamedFile,
    check_mode,
    examine_directories,
    examine_files,
    examine_option_files,
    examine_tmpdirs,
    files_of,
)
from pytunnel.doctor.findings import Finding
from pytunnel.tls.settings import TlsSettings

SERVER = Reader("mysql", 999, 999, (999, 50))
KEY, CERTIFICATE = NamedFile(Path("/t/node.key"), private=True), NamedFile(Path("/t/ca.crt"))
NOBODY = Reader("nobody", 65534, 65534, (65534,))

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask what another user may do")


def status(mode: int, uid: int = 999, gid: int = 999) -> os.stat_result:
    return os.stat_result((0o100000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


def judged(file: NamedFile, mode: int, uid: int = 999, gid: int = 999) -> list[Finding]:
    return check_mode("files", file, status(mode, uid, gid), SERVER)


@pytest.fixture
def open_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory that every user can enter, whatever is above it."""
    closed = [place for place in tmp_path.parents if not place.stat().st_mode & 0o001]
    modes = {place: place.stat().st_mode for place in closed}
    for place in closed:
        place.chmod(modes[place] | 0o001)
    tmp_path.chmod(0o755)
    yield tmp_path
    for place, mode in modes.items():
        place.chmod(mode)


def test_all_files_of_a_use_are_looked_at_and_keys_are_private() -> None:
    tls = TlsSettings(certificate=Path("/c"), key=Path("/k"), ca=Path("/a"), revoked=(Path("/r"),))
    assert {file.path: file.private for file in files_of(tls)} == {
        Path("/c"): False,
        Path("/k"): True,
        Path("/a"): False,
        Path("/r"): False,
    }


def test_a_certificate_file_with_the_key_in_it_is_private() -> None:
    assert files_of(TlsSettings(certificate=Path("/c")))[0].private


@pytest.mark.parametrize(("mode", "uid", "gid"), [(0o600, 999, 999), (0o640, 0, 999), (0o440, 0, 50), (0o640, 0, 0)])
def test_a_key_of_the_server_s_user_or_root_is_ok(mode: int, uid: int, gid: int) -> None:
    assert judged(KEY, mode, uid, gid) == []


def test_a_key_of_another_user_is_warned_of() -> None:
    (found,) = judged(KEY, 0o600, uid=12345)
    assert (found.level, "12345" in found.text) == (Level.WARNING, True)


def test_a_key_that_is_open_to_a_strange_group_is_warned_of() -> None:
    (found,) = judged(KEY, 0o640, uid=0, gid=12345)
    assert (found.level, found.advice) == (Level.WARNING, "run: chmod g-rwx /t/node.key")


def test_a_ca_file_that_everybody_can_change_is_warned_of() -> None:
    (found,) = judged(CERTIFICATE, 0o666)
    assert (found.level, found.advice) == (Level.WARNING, "run: chmod o-w /t/ca.crt")


def test_a_ca_file_that_everybody_can_read_is_ok() -> None:
    assert judged(CERTIFICATE, 0o644, uid=0, gid=0) == []


def test_readable_files_are_one_row(tmp_path: Path) -> None:
    files = [NamedFile(tmp_path / name) for name in ("a", "b")]
    for file in files:
        file.path.touch(mode=0o644)
    (found,) = examine_files("files", files, ourselves())
    assert found.level is Level.OK
    assert f"{tmp_path}/a, {tmp_path}/b: readable by {ourselves().name}" in found.text


def test_missing_files_are_left_to_others(tmp_path: Path) -> None:
    assert examine_files("files", [NamedFile(tmp_path / "missing")], ourselves()) == []


@as_root
def test_a_file_that_the_server_s_user_can_not_read_is_a_fault(open_directory: Path) -> None:
    key = NamedFile(open_directory / "node.key", private=True)
    key.path.touch(mode=0o600)
    (found,) = examine_files("files", [key], NOBODY)
    assert (found.level, f"chown nobody {key.path}" in found.advice) == (Level.FAULT, True)


@as_root
def test_a_directory_that_the_server_s_user_can_not_enter_is_named(open_directory: Path) -> None:
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    (closed / "node.crt").touch(mode=0o644)
    (found,) = examine_files("files", [NamedFile(closed / "node.crt")], NOBODY)
    assert (found.level, f"the directory {closed} is closed" in found.text) == (Level.FAULT, True)
    assert found.advice


def test_directories_that_can_be_written_are_one_row_without_repetition(tmp_path: Path) -> None:
    named = [NamedDirectory(tmp_path, "datadir"), NamedDirectory(tmp_path, "innodb-undo-directory")]
    (found,) = examine_directories(named, ourselves())
    assert (found.level, found.text) == (Level.OK, f"datadir {tmp_path}: writable by {ourselves().name}")


def test_a_missing_directory_that_can_be_made_is_a_warning(tmp_path: Path) -> None:
    (found,) = examine_directories([NamedDirectory(tmp_path / "undo" / "1", "undo")], ourselves())
    assert (found.level, str(tmp_path / "undo" / "1") in found.advice) == (Level.WARNING, True)


@as_root
def test_a_missing_directory_that_can_not_be_made_is_a_fault(open_directory: Path) -> None:
    (found,) = examine_directories([NamedDirectory(open_directory / "undo", "undo")], NOBODY)
    assert found.level is Level.FAULT


@as_root
def test_a_directory_that_can_not_be_written_is_a_fault(open_directory: Path) -> None:
    (found,) = examine_directories([NamedDirectory(open_directory, "datadir")], NOBODY)
    assert (found.level, "can't write" in found.text) == (Level.FAULT, True)


@pytest.mark.parametrize("tmpdir", ["data", "data/tmp", "link/tmp"])
def test_a_tmpdir_in_the_datadir_is_a_warning_however_it_is_spelled(tmp_path: Path, tmpdir: str) -> None:
    (tmp_path / "link").symlink_to("data")
    (found,) = examine_tmpdirs([tmp_path / tmpdir], tmp_path / "data")
    assert (found.level, f"tmpdir {tmp_path / tmpdir} lies in the datadir" in found.text) == (Level.WARNING, True)


def test_a_tmpdir_elsewhere_is_none(tmp_path: Path) -> None:
    assert examine_tmpdirs([tmp_path / "tmp", tmp_path], tmp_path / "data") == []


def test_what_my_print_defaults_left_out_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.touch(mode=0o644)
    (found,) = examine_option_files([file, None], ["World-writable config file"], ourselves())
    assert (found.level, "World-writable" in found.text) == (Level.WARNING, True)


def test_readable_option_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.touch(mode=0o644)
    (found,) = examine_option_files([file], [], ourselves())
    assert (found.level, found.text) == (Level.OK, str(file))
