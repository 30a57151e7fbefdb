"""What a transfer may write: the directories that are the server's, none above them."""

from __future__ import annotations

from pathlib import Path

from pytunnel.confinement.landlock import WRITE
from pytunnel.sst.address import Address
from pytunnel.sst.confinement import rules_for
from pytunnel.sst.directories import BinlogPlace, Layout
from pytunnel.sst.request import Request, Role


def test_a_missing_directory_gives_no_right_to_the_one_above_it(tmp_path: Path) -> None:
    datadir, private = tmp_path / "data", tmp_path / "private"
    for place in (datadir, private):
        place.mkdir()
    binlog = BinlogPlace(datadir, Path("/binlogs/mysql/bin"), tmp_path / "gone" / "bin.index", "/binlogs/mysql/", 1)
    layout = Layout(datadir, datadir, datadir, datadir, tmp_path / "aria", binlog)
    rules = rules_for(Request(Role.JOINER, Address("node2"), datadir), layout, private)
    writable = {path for path, access in rules.paths.items() if access == WRITE}
    assert writable == {datadir, private, tmp_path / "aria", Path("/binlogs/mysql"), tmp_path / "gone"}
