"""A checkout that the server's user can't read is copied, so that this user can run the copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import install
from lab.account import Account
from lab.programs import Programs
from tests.support.programs import AS_ANYONE, can_be_anyone

ANYONE = Account("anyone", 54321, 54321)


@pytest.fixture
def umask_077() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user can get into, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="pyt-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not can_be_anyone(), reason="needs root, and a Python that every user can run")
@pytest.mark.usefixtures("umask_077")
def test_a_checkout_made_under_umask_077_is_copied_for_every_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = folder / "checkout"
    private.mkdir()
    shutil.copy(install.CHECKOUT / "wsrep_sst_rsync_tunnel", private)
    (private / "wsrep_sst_rsync_tunnel").chmod(0o700)
    # Not its modes: what git writes has those of the umask.
    shutil.copytree(install.CHECKOUT / "src", private / "src", copy_function=shutil.copyfile)
    for each in (private / "src").rglob("*"):
        each.chmod(0o700 if each.is_dir() else 0o600)
    monkeypatch.setattr(install, "CHECKOUT", private)
    path = install.install(folder / "method", ANYONE, Programs("", "", "", Path()))
    program = Path(path.partition(os.pathsep)[0], "wsrep_sst_rsync_tunnel")
    assert program.parent == folder / "method"
    subprocess.run([*AS_ANYONE, str(program), "--version"], check=True, cwd="/", timeout=60)
