"""How keys and certificates get into files."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytunnel.certs.errors import CertsError
from pytunnel.certs.storing import NewFile, write_files

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_a_key_is_for_its_owner_alone_and_a_certificate_for_everyone(tmp_path: Path, umask: int) -> None:
    key, certificate = tmp_path / "a.key", tmp_path / "a.crt"
    old = os.umask(umask)
    try:
        write_files([NewFile(key, "key", private=True), NewFile(certificate, "certificate")])
    finally:
        os.umask(old)
    assert (mode(key), mode(certificate)) == (0o600, 0o644)
    assert (key.read_text(), certificate.read_text()) == ("key", "certificate")


def test_a_file_that_exists_is_left_as_it_is_and_no_other_is_written(tmp_path: Path) -> None:
    key, certificate = tmp_path / "a.key", tmp_path / "a.crt"
    certificate.write_text("precious")
    with pytest.raises(CertsError, match=r"a\.crt exists and was left as it is; give --force"):
        write_files([NewFile(key, "key", private=True), NewFile(certificate, "new")])
    assert certificate.read_text() == "precious"
    assert names_in(tmp_path) == ["a.crt"]


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CertsError, match="exists"):
        write_files([NewFile(tmp_path / "a.key", "key", private=True)])
    assert not (tmp_path / "elsewhere").exists()


def test_force_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("old")
    path.chmod(0o644)
    write_files([NewFile(path, "new", private=True)], force=True)
    assert (path.read_text(), mode(path), names_in(tmp_path)) == ("new", 0o600, ["a.key"])


def test_force_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "a.crt"
    target.write_text("precious")
    link.symlink_to(target)
    write_files([NewFile(link, "new")], force=True)
    assert (target.read_text(), link.read_text(), link.is_symlink()) == ("precious", "new", False)


def test_a_key_that_a_group_could_read_stays_readable_to_it(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("old")
    path.chmod(0o640)
    write_files([NewFile(path, "new", private=True)], force=True)
    assert mode(path) == 0o640


@needs_root
def test_a_replaced_file_still_belongs_to_the_server_s_user(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("old")
    os.chown(path, 12345, 12346)
    write_files([NewFile(path, "new", private=True)], force=True)
    assert (path.stat().st_uid, path.stat().st_gid, path.read_text()) == (12345, 12346, "new")


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertsError, match=r"missing/a\.key can't be written: No such file or directory"):
        write_files([NewFile(tmp_path / "missing" / "a.key", "key", private=True)])


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_in_a_file_s_place_is_named_and_stays(tmp_path: Path, force: bool) -> None:
    (tmp_path / "a.crt").mkdir()
    with pytest.raises(CertsError, match=r"a\.crt (exists|can't be replaced: it is a directory)"):
        write_files([NewFile(tmp_path / "a.crt", "text")], force=force)
    assert names_in(tmp_path) == ["a.crt"]


def test_a_directory_in_one_file_s_place_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    key, certificate = tmp_path / "a.key", tmp_path / "a.crt"
    key.write_text("old")
    certificate.mkdir()
    with pytest.raises(CertsError, match=r"a\.crt can't be replaced: it is a directory"):
        write_files([NewFile(key, "new", private=True), NewFile(certificate, "new")], force=True)
    assert (key.read_text(), sorted(names_in(tmp_path))) == ("old", ["a.crt", "a.key"])


def test_a_link_to_a_directory_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.crt").symlink_to(tmp_path)
    write_files([NewFile(tmp_path / "a.crt", "new")], force=True)
    assert ((tmp_path / "a.crt").read_text(), names_in(tmp_path)) == ("new", ["a.crt"])


@needs_root
def test_what_was_replaced_is_put_back_where_a_later_file_can_not_be() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)  # where nobody may replace root's link
        (folder / "a.key").write_text("old")
        os.chown(folder / "a.key", NOBODY, -1)
        old = (folder / "a.key").stat()
        (folder / "a.crt").symlink_to("elsewhere")
        files = [NewFile(folder / name, "new", private=True) for name in ("a.key", "a.pem", "a.crt")]
        os.seteuid(NOBODY)
        try:
            with pytest.raises(CertsError, match=r"a\.crt can't be replaced: .*; all files are as they were"):
                write_files(files, force=True)
        finally:
            os.seteuid(0)
        assert (folder / "a.key").stat().st_ino == old.st_ino
        assert ((folder / "a.key").read_text(), sorted(names_in(folder))) == ("old", ["a.crt", "a.key"])


@settings(deadline=None)
@given(existing=st.lists(st.booleans(), min_size=1, max_size=4))
def test_either_all_files_are_written_or_none(tmp_path_factory: pytest.TempPathFactory, existing: list[bool]) -> None:
    folder = tmp_path_factory.mktemp("files")
    files = [NewFile(folder / str(number), "new", private=number % 2 == 0) for number in range(len(existing))]
    for file, exists in zip(files, existing, strict=True):
        if exists:
            file.path.write_text("old")
    try:
        write_files(files)
    except CertsError:
        assert any(existing)
        assert {path.read_text() for path in folder.iterdir()} == {"old"}
        assert len(list(folder.iterdir())) == sum(existing)
    else:
        assert [file.path.read_text() for file in files] == ["new"] * len(files)
