"""Which files make a snapshot, and how they are divided into streams."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sst.manifest import (
    REDO,
    UNDO,
    Amount,
    Entry,
    file_list,
    list_schemas,
    measure,
    plan_streams,
    runs,
    total,
    worthwhile,
)
from pytunnel.sst.workplace import private_directory

file_names = st.binary(min_size=1, max_size=20).map(lambda name: name.replace(b"\0", b"x"))
entries = st.lists(
    st.builds(Entry, st.integers(0, 2**40), file_names),
    unique_by=lambda entry: entry.path,
    max_size=60,
)


def names(found: list[Entry]) -> set[bytes]:
    return {entry.path for entry in found}


def test_every_schema_directory_is_listed_with_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "shop" / "part").mkdir(parents=True)
    (tmp_path / "shop" / "orders.ibd").write_bytes(b"12345")
    (tmp_path / "shop" / "part" / "p0.ibd").write_bytes(b"1")
    (tmp_path / "empty").mkdir()
    found = list_schemas(tmp_path)
    assert names(found) == {b"shop", b"shop/orders.ibd", b"shop/part", b"shop/part/p0.ibd", b"empty"}
    assert total(found) == Amount(bytes=6, files=5)


def test_files_of_the_top_level_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "auto.cnf").write_text("x")
    (tmp_path / "ibdata1").write_text("x")
    assert list_schemas(tmp_path) == []


def test_the_file_systems_own_directories_are_not_listed(tmp_path: Path) -> None:
    for name in ("lost+found", ".zfs", ".snapshot", ".fseventsd", ".Trashes"):
        (tmp_path / name).mkdir()
    assert list_schemas(tmp_path) == []


def test_our_own_directories_are_not_listed(tmp_path: Path) -> None:
    with private_directory(tmp_path, [tmp_path]) as private:
        assert private.parent == tmp_path
        assert list_schemas(tmp_path) == []


def test_a_directory_that_is_left_out_is_not_listed_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "redo").mkdir()
    (tmp_path / "shop" / "undo").mkdir(parents=True)
    (tmp_path / "shop" / "undo" / "undo001").write_text("x")
    assert names(list_schemas(tmp_path, [tmp_path / "redo", tmp_path / "shop" / "undo"])) == {b"shop"}


def test_a_link_that_is_left_out_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "redo").symlink_to("/elsewhere")
    assert names(list_schemas(tmp_path, [tmp_path / "shop" / "redo"])) == {b"shop"}


@pytest.mark.parametrize("left", ["nothing", "file"])
def test_a_directory_that_vanishes_while_the_list_is_made_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    for schema in ("dropped", "shop"):
        (tmp_path / schema).mkdir()
        (tmp_path / schema / "t.ibd").touch()
    scandir, dropped = os.scandir, tmp_path / "dropped"

    def drop_and_scan(directory: bytes) -> Iterator[os.DirEntry[bytes]]:
        if directory.endswith(b"/dropped"):
            dropped.rename(tmp_path / "gone")
            if left == "file":
                dropped.touch()
        return scandir(directory)

    monkeypatch.setattr(os, "scandir", drop_and_scan)
    assert names(list_schemas(tmp_path)) == {b"dropped", b"shop", b"shop/t.ibd"}


def test_a_symbolic_link_in_the_top_level_is_no_schema(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to("/")
    assert list_schemas(tmp_path) == []


def test_names_with_any_byte_are_listed_as_they_are(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"#odd \xff\n")).mkdir()
    assert names(list_schemas(tmp_path)) == {b"#odd \xff\n"}


def test_a_sets_files_are_measured_and_directories_of_such_names_are_not(tmp_path: Path) -> None:
    (tmp_path / "undo001").write_bytes(b"123")
    (tmp_path / "undo_shop").mkdir()
    (tmp_path / "ib_logfile0").write_bytes(b"1234")
    (tmp_path / "ib_logfiles").write_bytes(b"not one")
    assert measure(tmp_path, UNDO) == Amount(3, 1)
    assert measure(tmp_path, REDO) == Amount(4, 1)


@given(entries, st.integers(1, 12))
def test_each_file_travels_in_exactly_one_stream(files: list[Entry], count: int) -> None:
    streams = plan_streams(files, count)
    assert sorted(entry for stream in streams for entry in stream) == sorted(files)
    assert len(streams) <= count
    assert all(streams)


@given(entries, st.integers(1, 12))
def test_no_stream_is_longer_than_the_fairest_share_and_one_file_more(files: list[Entry], count: int) -> None:
    streams = plan_streams(files, count)
    largest = max((entry.size for entry in files), default=0)
    share = sum(entry.size for entry in files) / count
    assert all(sum(entry.size for entry in stream) <= share + largest for stream in streams)


@given(entries, st.integers(1, 12))
def test_a_stream_names_a_directory_before_what_it_holds(files: list[Entry], count: int) -> None:
    for stream in plan_streams(files, count):
        assert [entry.path for entry in stream] == sorted(entry.path for entry in stream)


@given(entries, st.integers(1, 2**41))
def test_a_stream_travels_in_runs_of_limited_size_unless_a_file_is_larger(files: list[Entry], most: int) -> None:
    found = runs(files, most)
    assert [entry for run in found for entry in run] == files
    assert all(len(run) == 1 or sum(entry.size for entry in run) <= most for run in found)


@given(entries, st.integers(1, 2**41))
def test_two_runs_that_would_fit_into_one_are_one(files: list[Entry], most: int) -> None:
    found = runs(files, most)
    for run, following in itertools.pairwise(found):
        assert sum(entry.size for entry in run) + following[0].size > most


@given(entries)
def test_the_file_list_can_be_read_back_whatever_the_names_hold(files: list[Entry]) -> None:
    words = file_list(files).split(b"\0")
    assert words.pop() == b""
    assert [word.removeprefix(b"./") for word in words] == [entry.path for entry in files] or any(
        entry.path.startswith(b"./") for entry in files
    )
    assert not any(word.startswith((b"#", b";", b"-")) for word in words)


@pytest.mark.parametrize(("megabytes", "streams"), [(0, 1), (1, 1), (100, 4), (10_000, 4)])
def test_little_data_is_not_worth_many_connections(megabytes: int, streams: int) -> None:
    entries = [Entry(1_000_000, b"shop/t%d.ibd" % number) for number in range(megabytes)]
    assert worthwhile(entries, 4) == streams
