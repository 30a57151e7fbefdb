"""What in a node's files keeps a transfer from being complete, and is refused beforehand."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytunnel.sst.directories import Layout
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.obstacles import check_carriable, check_replaceable


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A datadir with two schemas and what InnoDB needs."""
    datadir = tmp_path / "data"
    for schema in ("shop/part", "other"):
        (datadir / schema).mkdir(parents=True)
    for name in ("ibdata1", "ib_logfile0"):
        (datadir / name).touch()
    return Layout(datadir, data=datadir, redo=datadir, undo=datadir, aria=datadir)


def refusal(layout: Layout) -> str:
    with pytest.raises(SstError) as caught:
        check_carriable(layout)
    assert caught.value.exit_code == ExitCode.BAD_SETTING
    return str(caught.value)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("shop/t.MYD", "/elsewhere/t.MYD"),
        ("shop/t.MYD", "../../t.MYD"),
        ("shop/part/t.MYD", "../../../t.MYD"),
        ("shop/t.ibd", "../big.ibd"),  # a file of the top level doesn't travel
        ("shop/t.ibd", "../lost+found/t.ibd"),
        ("shop/t.ibd", "../redo/t.ibd"),
        ("shop/all", ".."),
        ("shop/all", "../.."),
        ("linked", "shop"),
        ("linked", "/"),
    ],
)
def test_a_link_to_what_does_not_travel_is_refused(layout: Layout, link: str, target: str) -> None:
    for directory in ("redo", "lost+found"):
        (layout.datadir / directory).mkdir()
    (layout.datadir / link).symlink_to(target)
    said = refusal(replace(layout, aria=layout.datadir / "redo"))
    assert f"(1, the first is {layout.datadir / link} -> {target})" in said


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("shop/t.MYD", "u.MYD"),
        ("shop/t.MYD", "part/u.MYD"),
        ("shop/part/t.MYD", "../../shop/u.MYD"),
        ("shop/t.MYD", "../other/u.MYD"),
        ("shop/more", "../other"),
        ("redo", "../elsewhere"),
        ("server.sock", "/run/server.sock"),
    ],
)
def test_a_link_into_a_schema_or_in_the_place_of_a_set_is_carried(layout: Layout, link: str, target: str) -> None:
    (layout.datadir / "redo" if link != "redo" else layout.datadir.parent / "elsewhere").mkdir()
    (layout.datadir / link).symlink_to(target)
    check_carriable(replace(layout, aria=layout.datadir / "redo"))


def test_a_link_that_vanishes_while_it_is_looked_at_is_none(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    (layout.datadir / "shop" / "t.MYD").symlink_to("/elsewhere")
    readlink = Path.readlink

    def drop_and_read(link: Path) -> Path:
        link.unlink()
        return readlink(link)

    monkeypatch.setattr(Path, "readlink", drop_and_read)
    check_carriable(layout)


def test_a_set_may_lie_behind_a_link_in_a_schema(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "ib_logfile0").touch()
    (layout.datadir / "shop" / "redo").symlink_to(tmp_path / "disk")
    check_carriable(replace(layout, redo=layout.datadir / "shop" / "redo"))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ibdata1", "InnoDB system tablespace"),
        ("ib_logfile0", "redo log"),
        ("undo001", "undo tablespaces"),
        ("aria_log_control", "Aria log"),
    ],
)
@pytest.mark.parametrize("separate", [False, True])
def test_a_file_of_a_set_that_is_a_link_is_refused(
    layout: Layout, tmp_path: Path, name: str, title: str, *, separate: bool
) -> None:
    directory = layout.datadir
    if separate:
        directory = tmp_path / "sets"
        directory.mkdir()
        layout = replace(layout, data=directory, redo=directory, undo=directory, aria=directory)
    (directory / name).unlink(missing_ok=True)
    (directory / name).symlink_to("/ssd/file")
    assert f"{directory / name} ({title}) is a symbolic link to /ssd/file" in refusal(layout)


def test_a_table_that_lies_elsewhere_is_refused_by_its_name(layout: Layout) -> None:
    (layout.datadir / "shop" / "far.isl").write_text("/elsewhere/shop/far.ibd")
    (layout.datadir / "other" / "far#P#p0.isl").write_text("/elsewhere/other/far#P#p0.ibd")
    assert "the table other/far#P#p0 was made with DATA DIRECTORY" in (said := refusal(layout))
    assert re.search(r"2 such tables; .*/other/far#P#p0.isl names its place\); make it anew", said)


@pytest.mark.parametrize("name", ["mysql.ibd", "ts1.ibd", "ts1.isl"])
def test_a_tablespace_outside_of_the_schemas_is_refused(layout: Layout, name: str) -> None:
    (layout.datadir / name).touch()
    assert f"{layout.datadir / name} is a tablespace outside of the schemas" in refusal(layout)


def test_a_set_s_directory_that_is_missing_is_named(layout: Layout) -> None:
    with pytest.raises(SstError, match="the directory of the Aria log, /nowhere, is not there") as caught:
        check_carriable(replace(layout, aria=Path("/nowhere")))
    assert caught.value.exit_code == ExitCode.MISSING


def deny(monkeypatch: pytest.MonkeyPatch, *denied: Path) -> None:
    """Answer as the system does to a user who may not read these; root may read all."""
    monkeypatch.setattr(os, "access", lambda path, mode: path not in denied)


def test_files_that_may_not_be_read_are_refused_with_their_number_and_the_first_name(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = [layout.datadir / name for name in ("ibdata1", "shop/dump.sql")]
    for path in denied:
        path.touch()
    deny(monkeypatch, *denied)
    assert f"may not read {denied[0]}, so rsync could not carry it (2 such files" in refusal(layout)


def test_what_no_transfer_carries_need_not_be_readable(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    (layout.datadir / "lost+found").mkdir()
    (layout.datadir / "auto.cnf").touch()
    deny(monkeypatch, layout.datadir / "lost+found", layout.datadir / "auto.cnf")
    check_carriable(layout)


def test_a_file_that_vanishes_while_it_is_looked_at_is_not_denied(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = layout.datadir / "shop" / "t.ibd"
    file.touch()

    def drop_and_ask(path: Path, mode: int) -> bool:
        file.unlink(missing_ok=True)
        return path.exists()

    monkeypatch.setattr(os, "access", drop_and_ask)
    check_carriable(layout)


def test_a_joiner_s_links_in_its_schemas_can_be_replaced(layout: Layout) -> None:
    (layout.datadir / "shop" / "t.MYD").symlink_to("/elsewhere/t.MYD")
    (layout.datadir / "ibdata1").unlink()
    (layout.datadir / "ibdata1").symlink_to("/ssd/ibdata1")
    check_replaceable(layout)


def test_a_joiner_s_schema_that_is_a_link_can_not_be_replaced(layout: Layout) -> None:
    (layout.datadir / "linked").symlink_to("shop")
    with pytest.raises(SstError, match="linked is a symbolic link to the directory shop, which no tr"):
        check_replaceable(layout)


@pytest.mark.parametrize(
    ("name", "set_", "option"),
    [
        ("ibdata1", "InnoDB system tablespace (ibdata*, ib_lru_dump)", "innodb-data-home-dir"),
        ("ib_logfile0", "redo log (ib_logfile[0-9]*)", "innodb-log-group-home-dir"),
    ],
)
def test_a_set_without_which_no_server_starts_and_that_is_elsewhere_is_refused(
    layout: Layout, name: str, set_: str, option: str
) -> None:
    (layout.datadir / name).rename(layout.datadir / "main1")
    said = refusal(layout)
    assert f"{layout.datadir} holds no file of the {set_}" in said
    assert f"{option} has to name the directory" in said


@pytest.mark.parametrize("name", ["main2", "/dev/sdb1", "other/ibdata2", "ibdata/2"])
def test_a_part_of_the_system_tablespace_that_is_not_carried_is_refused(layout: Layout, name: str) -> None:
    assert f"innodb-data-file-path names {name}, and" in refusal(replace(layout, system_files=("ibdata1", name)))


def test_a_redo_log_that_is_a_directory_travels_as_schemas_do(layout: Layout) -> None:
    (layout.datadir / "ib_logfile0").unlink()
    (layout.datadir / "#innodb_redo").mkdir()
    check_carriable(layout)


def test_a_redo_log_that_is_a_directory_outside_of_the_datadir_is_refused(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "redo" / "#innodb_redo").mkdir(parents=True)
    assert "holds no file of the redo log" in refusal(replace(layout, redo=tmp_path / "redo"))


def test_a_joiner_s_link_that_leads_nowhere_may_stand_for_a_schema(layout: Layout) -> None:
    (layout.datadir / "linked").symlink_to("/disk2/linked")
    with pytest.raises(
        SstError, match="linked is a symbolic link to /disk2/linked, which is not there, and no transfer"
    ):
        check_replaceable(layout)


@pytest.mark.parametrize("name", ["mysql.sock", "ibdata1", "redo"])
def test_a_joiner_s_link_that_leads_nowhere_and_is_no_schema_is_let_be(layout: Layout, name: str) -> None:
    (layout.datadir / name).unlink(missing_ok=True)
    (layout.datadir / name).symlink_to("/run/elsewhere")
    check_replaceable(replace(layout, redo=layout.datadir / "redo"))
