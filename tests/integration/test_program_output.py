"""What the program says where its output goes nowhere, and where a demonstration fails: never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.credentials import settings_of
from tests.support.ends import NODE2
from tests.support.tunnels import LIMIT, credentials, environment_of_programs, pytunnel, ran, started


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    own = self_signed(NODE2)
    return str(settings_of(tmp_path / "node2", own, [own]).certificate)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_seen_enough_ends_it_quietly(certificate: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = with_output(writing, unbuffered, "certs", "show", certificate)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_output_is_one_line(certificate: str, unbuffered: str) -> None:
    done = with_output(os.open("/dev/full", os.O_WRONLY), unbuffered, "certs", "show", certificate)
    assert (done.returncode, done.stderr) == (1, "pytunnel: can't write to standard output: No space left on device\n")


def with_output(output: int, unbuffered: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = environment_of_programs({"PYTHONUNBUFFERED": unbuffered})
    try:
        return subprocess.run(
            pytunnel(*words),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=LIMIT,
            check=False,
        )
    finally:
        os.close(output)


def test_a_demonstration_whose_rsync_fails_says_so_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "rsync"
    broken.write_text("#!/bin/sh\nexit 12\n")
    broken.chmod(0o755)
    done = ran(pytunnel("demo", "--size", "1"), environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.returncode > 0
    assert done.stderr.splitlines()[-1].startswith("pytunnel: rsync ended with code 12")
    assert "Traceback" not in done.stderr


def test_a_variable_that_is_nearly_a_setting_is_warned_of(tmp_path: Path) -> None:
    own = self_signed(NODE2)
    words = pytunnel("listen", *credentials(settings_of(tmp_path / "node2", own, [own])), "127.0.0.1:0", "127.0.0.1:9")
    with started(words, environment={"PYTUNNEL_PEER_NAMES": "node1"}) as program:
        program.wait_for("WARNING PYTUNNEL_PEER_NAMES is no setting of .* is PYTUNNEL_PEER_NAME meant")
        program.wait_for("accepting ")
