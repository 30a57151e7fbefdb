"""The SST method as a file of a checkout: which Python it runs with, and what it says where that is broken."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("wsrep_sst_rsync_tunnel", "wsrep_sst_secure_rsync")
LIMIT = 60.0
SHIM = """
import os, sys
def main():
    print(sys.prefix, *sorted(name for name in os.environ if name.startswith("PYTUNNEL")), *sys.argv[1:])
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The method's files, and in place of the package one that tells which Python runs it."""
    folder = tmp_path / "checkout"
    package = folder / "src" / "pytunnel" / "sst"
    package.mkdir(parents=True)
    for name in ("__init__.py", "sst/__init__.py", "sst/shim.py"):
        (folder / "src" / "pytunnel" / name).write_text(SHIM if name.endswith("shim.py") else "")
    (folder / NAMES[0]).write_bytes((ROOT / NAMES[0]).read_bytes())
    (folder / NAMES[1]).symlink_to(NAMES[0])
    return folder


def run(checkout: Path, name: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [sys.executable, str(checkout / name), "--role", "joiner"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_checkout_s_own_python_runs_it_and_leaves_no_mark(checkout: Path, name: str) -> None:
    venv.create(checkout / ".venv", symlinks=True)
    assert run(checkout, name).stdout == f"{checkout / '.venv'} --role joiner\n"


def test_a_checkout_without_an_environment_runs_with_the_python_that_is_there(checkout: Path) -> None:
    assert run(checkout, NAMES[0]).stdout == f"{sys.prefix} --role joiner\n"


@pytest.mark.parametrize("name", NAMES)
def test_an_environment_that_is_half_removed_is_named(checkout: Path, name: str) -> None:
    venv.create(checkout / ".venv", symlinks=True)
    (checkout / ".venv" / "pyvenv.cfg").unlink()
    done = run(checkout, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{name}: {checkout / '.venv'} is broken (its Python runs as if it were another's); ")


def test_an_environment_whose_python_can_not_be_started_is_named(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(mode=0o644)
    done = run(checkout, NAMES[0])
    assert done.returncode == 2
    assert "is broken (its Python can't be started: Permission denied); remove it, then run tools" in done.stderr
