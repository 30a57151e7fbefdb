"""Our binlog archive and the tar program's, each read by the other: nodes with the socat script use tar."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pytunnel.sst import binlog
from pytunnel.sst.directories import BinlogPlace

pytestmark = pytest.mark.skipif(
    shutil.which("tar") is None and os.environ.get("CI") != "true",
    reason="tar is not on PATH; `apt-get install tar` (or dnf) enables these tests",
)

BINLOGS = {"mysql-bin.000009": os.urandom(70_000), "mysql-bin.000010": b""}


def unhindered() -> None:
    """Nobody ends the copying."""


def tar(*arguments: str, directory: Path) -> str:
    ran = subprocess.run(["tar", *arguments], cwd=directory, capture_output=True, timeout=60, check=True)
    return ran.stdout.decode()


@pytest.fixture
def place(tmp_path: Path) -> BinlogPlace:
    return BinlogPlace(tmp_path, tmp_path / "mysql-bin", tmp_path / "mysql-bin.index", "./", -1)


def test_tar_unpacks_what_we_pack(place: BinlogPlace, tmp_path: Path) -> None:
    for name, content in BINLOGS.items():
        (tmp_path / name).write_bytes(content)
    place.index.write_text("".join(f"./{name}\n" for name in BINLOGS))
    with (tmp_path / binlog.ARCHIVE).open("wb") as archive:
        binlog.pack(place, archive, unhindered)
    target = tmp_path / "target"
    target.mkdir()
    tar("-xf", f"../{binlog.ARCHIVE}", directory=target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == BINLOGS


def test_we_unpack_what_tar_packs(place: BinlogPlace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, content in BINLOGS.items():
        (source / name).write_bytes(content)
    tar("-cf", f"../{binlog.ARCHIVE}", *BINLOGS, directory=source)
    with (tmp_path / binlog.ARCHIVE).open("rb") as archive:
        assert binlog.unpack(place, archive, unhindered) == list(BINLOGS)
    assert {name: (tmp_path / name).read_bytes() for name in BINLOGS} == BINLOGS
