"""The files that exist only while a transfer runs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
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


def test_a_link_in_the_place_of_our_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / IN_PROGRESS).symlink_to(victim)
    with in_progress(tmp_path):
        assert not (tmp_path / IN_PROGRESS).is_symlink()
    assert victim.read_text() == "precious"
    assert not (tmp_path / IN_PROGRESS).exists()


def test_the_private_directory_is_ours_alone_and_goes_with_us(tmp_path: Path) -> None:
    with private_directory(Path("/data"), tmp_path) as private:
        secret = write_private(private / "secrets", "a:b\n")
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_for_the_same_datadir_is_removed(tmp_path: Path) -> None:
    with private_directory(Path("/data"), tmp_path) as private:
        remains = private.with_name(private.name[:-8] + "leftover")
        remains.mkdir()
    other = tmp_path / "pytunnel-0123456789abcdef-someone"
    other.mkdir()
    with private_directory(Path("/data"), tmp_path):
        assert not remains.exists()
    assert other.exists()


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SstError, match="no private directory can be made in"), private_directory(
        Path("/data"), tmp_path / "missing"
    ):
        pass


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
