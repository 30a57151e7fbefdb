"""What is noticed of a path: every change on the way to what it leads to, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trio
import trio.testing

from pytunnel.system.inotify import Change, Inotify
from pytunnel.system.pathwatch import PathWatch, lookups
from tests.support.concurrency import in_trio_without_waiting

_NOT_NOTICED = 1.0  # seconds of a clock that jumps; what is noticed takes a third of this


async def notices(paths: Iterable[Path], change: Callable[[], object]) -> bool:
    """Whether the change is noticed by a watch on the paths."""
    watch = PathWatch(paths)
    try:
        change()
        with trio.move_on_after(_NOT_NOTICED) as waiting:
            await watch.changed()
        return not waiting.cancelled_caught
    finally:
        watch.close()


def volume(folder: Path, content: str = "old") -> Path:
    """A directory as Kubernetes makes them of a secret; returns the path of its file."""
    make_generation(folder, "..1", content)
    (folder / "..data").symlink_to("..1")
    (folder / "tls.crt").symlink_to("..data/tls.crt")
    return folder / "tls.crt"


def make_generation(folder: Path, name: str, content: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "tls.crt").write_text(content)


def swap(folder: Path, name: str) -> None:
    """Let the volume's files be those of another generation, all at once."""
    (folder / "..tmp").symlink_to(name)
    (folder / "..tmp").rename(folder / "..data")


def test_the_way_to_a_file_goes_through_all_links(tmp_path: Path) -> None:
    file = volume(tmp_path / "volume")
    way = [folder / name for folder, name in lookups(file) if folder.is_relative_to(tmp_path)]
    below = ["volume", "volume/tls.crt", "volume/..data", "volume/..1", "volume/..1/tls.crt"]
    assert way == [tmp_path / each for each in below]


def test_links_in_a_circle_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert len(list(lookups(tmp_path / "a"))) < 100


@in_trio_without_waiting
async def test_a_file_that_is_written_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text("old")
    assert await notices([file], lambda: file.write_text("new"))


@in_trio_without_waiting
async def test_a_file_that_is_written_by_another_of_its_names_is_noticed(tmp_path: Path) -> None:
    """As one that is mounted into a container."""
    file, other = tmp_path / "a.pem", tmp_path / "elsewhere" / "b.pem"
    file.write_text("old")
    other.parent.mkdir()
    other.hardlink_to(file)
    assert await notices([file], lambda: other.write_text("new"))


@in_trio_without_waiting
async def test_a_file_that_takes_another_s_place_is_noticed(tmp_path: Path) -> None:
    file, other = tmp_path / "a.pem", tmp_path / "b.pem"
    file.write_text("old")
    other.write_text("new")
    assert await notices([file], lambda: other.rename(file))


@in_trio_without_waiting
async def test_a_file_that_may_be_read_again_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text("old")
    assert await notices([file], lambda: file.chmod(0o400))


@in_trio_without_waiting
async def test_a_file_that_was_missing_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "tls" / "a.pem"

    def make() -> None:
        file.parent.mkdir()
        file.write_text("new")

    assert await notices([file], make)


@in_trio_without_waiting
async def test_a_volume_that_kubernetes_swaps_is_noticed(tmp_path: Path) -> None:
    file = volume(tmp_path)
    make_generation(tmp_path, "..2", "new")
    assert await notices([file], lambda: swap(tmp_path, "..2"))


@in_trio_without_waiting
async def test_a_directory_above_that_is_exchanged_is_noticed(tmp_path: Path) -> None:
    for name in ("tls", "other"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "a.pem").write_text(name)

    def exchange() -> None:
        (tmp_path / "tls").rename(tmp_path / "before")
        (tmp_path / "other").rename(tmp_path / "tls")

    assert await notices([tmp_path / "tls" / "deep" / "a.pem"], exchange)


@in_trio_without_waiting
async def test_a_relative_path_is_that_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert await notices([Path("a.pem")], lambda: Path("a.pem").write_text("new"))


@pytest.mark.parametrize("name", ["new.pem", "link.pem"])
def test_a_directory_stands_for_all_that_is_in_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "elsewhere.pem").write_text("old")
    (tmp_path / "ca" / "link.pem").symlink_to(tmp_path / "elsewhere.pem")

    @in_trio_without_waiting
    async def test() -> None:
        assert await notices([tmp_path / "ca"], lambda: (tmp_path / "ca" / name).write_text("new"))

    test()


@in_trio_without_waiting
async def test_what_is_beside_a_file_is_not_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("old")
    assert not await notices([tmp_path / "a.pem"], lambda: (tmp_path / "b.pem").write_text("new"))


@in_trio_without_waiting
async def test_reading_is_no_change(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("old")
    assert not await notices([tmp_path / "a.pem"], (tmp_path / "a.pem").read_text)


@in_trio_without_waiting
async def test_changes_that_follow_each_other_are_one(tmp_path: Path) -> None:
    file, key = tmp_path / "a.pem", tmp_path / "a.key"
    watch = PathWatch([file, key])
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.changed)
            await trio.testing.wait_all_tasks_blocked()
            file.write_text("new")
            await trio.sleep(0.05)
            key.write_text("new")
        with trio.move_on_after(_NOT_NOTICED) as waiting:
            await watch.changed()
        assert waiting.cancelled_caught
    finally:
        watch.close()


@in_trio_without_waiting
async def test_a_name_that_is_too_long_keeps_nothing_else_from_being_watched(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("old")
    too_long = tmp_path / ("a" * 300) / "b.pem"
    assert await notices([too_long, tmp_path / "a.pem"], lambda: (tmp_path / "a.pem").write_text("new"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every directory; run the tests as another user too")
@in_trio_without_waiting
async def test_a_directory_that_can_not_be_entered_is_told_and_the_others_are_watched(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    watch = PathWatch([tmp_path / "closed", tmp_path / "closed" / "a.pem", tmp_path / "b.pem"])
    watch.close()
    assert watch.unwatched == [tmp_path / "closed"]


@in_trio_without_waiting
async def test_a_directory_with_two_paths_is_watched_under_both(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Inotify() as watch:
        watch.add(tmp_path / "real", contents=False)
        watch.add(tmp_path / "link", contents=False)
        (tmp_path / "real" / "a.pem").mkdir()
        found = await watch.changes()
    assert set(found) == {Change(tmp_path / "real", "a.pem"), Change(tmp_path / "link", "a.pem")}


@in_trio_without_waiting
async def test_what_is_written_to_the_files_of_a_directory_on_the_way_wakes_nobody(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    with Inotify() as watch:
        watch.add(tmp_path, contents=False)
        (tmp_path / "log").write_text("a line")
        with trio.move_on_after(_NOT_NOTICED) as waiting:
            await watch.changes()
    assert waiting.cancelled_caught


@in_trio_without_waiting
async def test_a_directory_of_files_that_is_on_another_s_way_is_watched_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path)
    with Inotify() as watch:
        watch.add(tmp_path, contents=True)
        watch.add(tmp_path / "link", contents=False)
        (tmp_path / "a.pem").write_text("new")
        assert await watch.changes()
