"""What a joiner deletes when its transfer has failed, and what it says then."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytunnel.sst.directories import Layout
from pytunnel.sst.withholding import withhold

_COMPLETE = "no server starts on it before another transfer"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A datadir with everything that a server needs to start."""
    datadir = tmp_path / "data"
    for name in ("mysql/user.frm", "shop/t.ibd", "ibdata1", "ib_logfile0", "aria_log_control"):
        path = datadir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    return Layout(datadir, data=datadir, redo=datadir, undo=datadir, aria=datadir)


def names(layout: Layout) -> list[str]:
    return sorted(path.name for path in layout.datadir.iterdir())


def test_the_privilege_tables_and_the_sets_are_deleted(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        withhold(layout)
    assert names(layout) == ["shop"]
    assert _COMPLETE in caplog.text


def test_privilege_tables_behind_a_link_are_out_of_the_server_s_reach_afterwards(layout: Layout) -> None:
    privileges = layout.datadir / "mysql"
    elsewhere = privileges.rename(layout.datadir.parent / "elsewhere")
    privileges.symlink_to(elsewhere)
    withhold(layout)
    assert names(layout) == ["shop"]
    assert (elsewhere / "user.frm").read_text() == "old"


def test_what_could_not_be_deleted_is_told_and_nothing_is_promised(
    layout: Layout, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: bool) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with caplog.at_level("INFO"):
        withhold(layout)
    assert "can't be deleted (Operation not permitted)" in caplog.text
    assert _COMPLETE not in caplog.text
