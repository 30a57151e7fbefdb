"""The files that exist only while a transfer runs."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.filewatch import wait_for
from pytunnel.sst.workplace import IN_PROGRESS, PID_FILE, claim, in_progress, private_directory, write_private


def running_script() -> subprocess.Popen[bytes]:
    """A process that looks like another SST script and runs until its standard input ends."""
    program = "print('runs', flush=True); input()"
    command = [sys.executable, "-c", program, "wsrep_sst_other"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"runs\n"
    return process


async def claim_and_read(datadir: Path) -> str:
    async with claim(datadir):
        return (datadir / PID_FILE).read_text()


def test_the_pid_file_names_us_and_goes_with_us(tmp_path: Path) -> None:
    assert trio.run(claim_and_read, tmp_path) == f"{os.getpid()}\n"
    assert not (tmp_path / PID_FILE).exists()


@pytest.mark.parametrize("content", ["", "not a number", "999999999", "1"])
def test_a_pid_file_of_no_running_script_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / PID_FILE).write_text(content)
    assert trio.run(claim_and_read, tmp_path) == f"{os.getpid()}\n"


def test_a_script_that_still_runs_after_30_seconds_is_an_error(tmp_path: Path) -> None:
    with running_script() as other:
        try:
            (tmp_path / PID_FILE).write_text(str(other.pid))
            with pytest.raises(SstError, match=f"process {other.pid}") as caught:
                trio.run(claim_and_read, tmp_path, clock=trio.testing.MockClock(rate=1000))
            assert caught.value.exit_code == ExitCode.ALREADY_RUNNING
            assert (tmp_path / PID_FILE).read_text() == str(other.pid)
        finally:
            other.kill()


def test_a_script_that_ends_meanwhile_is_waited_for(tmp_path: Path) -> None:
    with running_script() as other:
        (tmp_path / PID_FILE).write_text(str(other.pid))

        async def end_it_meanwhile() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(claim_and_read, tmp_path)
                await trio.testing.wait_all_tasks_blocked()
                assert other.stdin is not None
                other.stdin.close()

        trio.run(end_it_meanwhile)


def test_of_many_that_wait_one_at_a_time_goes_on(tmp_path: Path) -> None:
    (tmp_path / PID_FILE).write_text("999999999")
    at_work = 0

    async def work() -> None:
        nonlocal at_work
        async with claim(tmp_path):
            at_work += 1
            assert at_work == 1
            await trio.sleep(2)
            at_work -= 1

    async def work_together() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(work)

    trio.run(work_together, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not (tmp_path / PID_FILE).exists()


def test_who_has_locked_the_file_is_respected_whatever_number_it_names(tmp_path: Path) -> None:
    """In another container the number means another process."""
    path = tmp_path / PID_FILE
    path.write_text("999999999")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SstError, match="process 999999999") as caught:
            trio.run(claim_and_read, tmp_path, clock=trio.testing.MockClock(autojump_threshold=0))
    assert caught.value.exit_code == ExitCode.ALREADY_RUNNING
    assert path.read_text() == "999999999"


@pytest.mark.parametrize("in_place", [True, False])
def test_the_file_of_another_is_not_removed_at_our_end(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / PID_FILE

    async def lose_it() -> None:
        async with claim(tmp_path):
            if not in_place:
                path.unlink()
            path.write_text("4321")

    trio.run(lose_it)
    assert path.read_text() == "4321"


def test_a_link_in_the_place_of_the_pid_file_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / PID_FILE).symlink_to(victim)
    with pytest.raises(SstError, match="remove it"):
        trio.run(claim_and_read, tmp_path)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM])
def test_a_script_is_waited_for_where_processes_cannot_be_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with running_script() as other:
        (tmp_path / PID_FILE).write_text(str(other.pid))

        async def end_it_meanwhile() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(claim_and_read, tmp_path)
                await trio.sleep(0.5)
                other.kill()
                other.wait()

        trio.run(end_it_meanwhile, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not (tmp_path / PID_FILE).exists()


def test_a_link_in_the_place_of_our_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / IN_PROGRESS).symlink_to(victim)
    with in_progress(tmp_path):
        assert not (tmp_path / IN_PROGRESS).is_symlink()
    assert victim.read_text() == "precious"
    assert not (tmp_path / IN_PROGRESS).exists()


def test_the_private_directory_is_ours_alone_and_goes_with_us(tmp_path: Path) -> None:
    with private_directory(Path("/data"), [tmp_path]) as private:
        secret = write_private(private / "secrets", "a:b\n")
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_for_the_same_datadir_is_removed(tmp_path: Path) -> None:
    with private_directory(Path("/data"), [tmp_path]) as private:
        remains = private.with_name(private.name[:-8] + "leftover")
        remains.mkdir()
    other = tmp_path / "pytunnel-0123456789abcdef-someone"
    other.mkdir()
    with private_directory(Path("/data"), [tmp_path]):
        assert not remains.exists()
    assert other.exists()


def test_the_directory_of_a_run_that_lives_is_not_removed(tmp_path: Path) -> None:
    with private_directory(Path("/data"), [tmp_path]) as living, private_directory(Path("/data"), [tmp_path]):
        assert living.exists()
    assert list(tmp_path.iterdir()) == []


def test_remains_that_vanish_while_we_look_hinder_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with private_directory(Path("/data"), [tmp_path]) as private:
        vanished, remains = (private.with_name(private.name[:-8] + name) for name in ("vanished", "leftover"))
    remains.mkdir()
    listed = [vanished, remains]
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(listed))
    with private_directory(Path("/data"), [tmp_path]):
        assert not remains.exists()


def test_a_link_or_a_file_named_like_our_remains_is_left_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").touch()
    with private_directory(Path("/data"), [tmp_path]) as private:
        stem = private.name[:-8]
    link, file = tmp_path / f"{stem}swapped1", tmp_path / f"{stem}swapped2"
    link.symlink_to(victim)
    file.touch()
    with private_directory(Path("/data"), [tmp_path]) as private:
        assert private not in (link, file)
    assert (victim / "precious").exists()
    assert file.exists()


def test_a_name_that_was_made_before_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    with private_directory(Path("/data"), [tmp_path]) as private:
        stem = private.name[:-8]
    (tmp_path / f"{stem}guessed1").symlink_to(victim)
    (tmp_path / f"{stem}guessed2").write_text("theirs")
    guesses = iter(["guessed1", "guessed2", "unguessed"])
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: guesses)
    with private_directory(Path("/data"), [tmp_path]) as private:
        assert private.name == f"{stem}unguessed"
        assert list(victim.iterdir()) == []


def test_the_first_directory_of_tmpdir_that_can_be_used_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "good").mkdir()
    (tmp_path / "later").mkdir()
    parents = [tmp_path / name for name in ("missing", "file", "good", "later")]
    with private_directory(Path("/data"), parents) as private:
        assert private.parent == tmp_path / "good"


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    parents = [tmp_path / "missing", tmp_path / "file"]
    with pytest.raises(SstError, match="no private directory can be made in") as caught:
        private_directory(Path("/data"), parents).__enter__()
    assert f"{parents[0]} (No such file or directory), {parents[1]} (Not a directory)" in str(caught.value)
    assert caught.value.exit_code == ExitCode.OTHER


def test_a_tmpdir_that_is_missing_is_told_as_missing(tmp_path: Path) -> None:
    with pytest.raises(SstError, match="missing") as caught:
        private_directory(Path("/data"), [tmp_path / "missing"]).__enter__()
    assert caught.value.exit_code == ExitCode.MISSING


@pytest.mark.parametrize(
    ("place", "reason", "exit_code"),
    [
        ("missing", "No such file or directory", ExitCode.MISSING),
        ("file", "Not a directory", ExitCode.OTHER),
        ("occupied", "Is a directory; remove it", ExitCode.OTHER),
    ],
)
@pytest.mark.parametrize("name", [PID_FILE, IN_PROGRESS, "secrets"])
def test_a_file_that_cannot_be_made_is_one_clear_error(
    tmp_path: Path, place: str, reason: str, exit_code: ExitCode, name: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "occupied" / name).mkdir(parents=True)
    datadir = tmp_path / place

    def make() -> None:
        if name == PID_FILE:
            trio.run(claim_and_read, datadir)
        elif name == IN_PROGRESS:
            in_progress(datadir).__enter__()
        else:
            write_private(datadir / name, "text")

    with pytest.raises(SstError, match=f"{datadir / name} can't be written: {reason}") as caught:
        make()
    assert caught.value.exit_code == exit_code


def test_a_file_is_noticed_when_it_appears(tmp_path: Path) -> None:
    file = tmp_path / "tables_flushed"

    async def write_later() -> str:
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                await trio.testing.wait_all_tasks_blocked()
                file.write_text("done")

            nursery.start_soon(write)
            with trio.fail_after(5):
                return await wait_for(tmp_path, lambda: file.read_text() or None if file.exists() else None)

    assert trio.run(write_later) == "done"
