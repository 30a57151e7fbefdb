"""Binlogs into a tar file and out of it again, and what an archive may not hold."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytunnel.sst import binlog
from pytunnel.sst.directories import BinlogPlace
from pytunnel.sst.errors import ExitCode, SstError


def unhindered() -> None:
    """Nobody ends the copying."""


class Halt(BaseException):
    """What ends a copying, as trio.Cancelled does."""


def after(chunks: int) -> binlog.GoOn:
    """Go on for so many chunks."""
    left = iter(range(chunks))

    def go_on() -> None:
        if next(left, None) is None:
            raise Halt

    return go_on


def make_place(datadir: Path, base: str = "mysql-bin", *, most: int = -1, directory: str = "./") -> BinlogPlace:
    return BinlogPlace(datadir, datadir / base, datadir / f"{base}.index", directory, most)


def fill(place: BinlogPlace, *numbers: int) -> None:
    """Binlogs and their index, as a server writes them."""
    place.base.parent.mkdir(parents=True, exist_ok=True)
    names = [f"{place.base.name}.{number:06}" for number in numbers]
    for name in names:
        path = place.base.with_name(name)
        path.write_bytes(b"\xfebin" + name.encode())
        path.chmod(0o660)
    place.index.write_text("".join(f"{place.written_directory}{name}\n" for name in names))


def packed(place: BinlogPlace) -> io.BytesIO:
    archive = io.BytesIO()
    binlog.pack(place, archive, unhindered)
    archive.seek(0)
    return archive


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive.seek(0)
    return archive


def plain(name: str, mode: int = 0o660) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = mode
    return member


def special(kind: bytes, name: str = "mysql-bin.000001") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = "/etc/passwd"
    return member


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.fixture
def donor(tmp_path: Path) -> BinlogPlace:
    place = make_place(tmp_path / "donor")
    fill(place, 1, 2, 3)
    return place


@pytest.fixture
def joiner(tmp_path: Path) -> BinlogPlace:
    (tmp_path / "joiner").mkdir()
    return make_place(tmp_path / "joiner")


@pytest.mark.parametrize(("most", "numbers"), [(0, []), (1, [3]), (2, [2, 3]), (9, [1, 2, 3]), (-1, [1, 2, 3])])
def test_the_last_binlogs_of_the_index_are_packed(tmp_path: Path, most: int, numbers: list[int]) -> None:
    place = make_place(tmp_path, most=most)
    fill(place, 1, 2, 3)
    archive = io.BytesIO()
    names = binlog.pack(place, archive, unhindered)
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        assert tar.getnames() == names == [f"mysql-bin.{number:06}" for number in numbers]


def test_binlogs_come_out_as_they_went_in(donor: BinlogPlace, joiner: BinlogPlace) -> None:
    names = binlog.unpack(joiner, packed(donor), unhindered)
    assert names == ["mysql-bin.000001", "mysql-bin.000002", "mysql-bin.000003"]
    assert contents(joiner.datadir) == contents(donor.datadir)
    assert stat.S_IMODE((joiner.datadir / names[0]).stat().st_mode) == 0o660


@pytest.mark.parametrize("absolute", [True, False])
def test_an_index_may_name_binlogs_in_another_directory(tmp_path: Path, joiner: BinlogPlace, absolute: bool) -> None:
    directory = f"{tmp_path}/elsewhere/" if absolute else "sub/"
    donor = make_place(tmp_path / "donor", f"{directory}b", directory=directory)
    fill(donor, 7)
    assert binlog.unpack(joiner, packed(donor), unhindered) == ["b.000007"]


def test_the_index_is_written_as_a_server_writes_it(tmp_path: Path, donor: BinlogPlace) -> None:
    place = make_place(tmp_path / "joiner", "logs/x", directory="logs/")
    binlog.unpack(place, packed(donor), unhindered)
    assert place.index.read_text() == "logs/mysql-bin.000001\nlogs/mysql-bin.000002\nlogs/mysql-bin.000003\n"
    assert stat.S_IMODE(place.index.stat().st_mode) == 0o660


def test_the_joiner_s_old_binlogs_are_removed(tmp_path: Path, donor: BinlogPlace, joiner: BinlogPlace) -> None:
    fill(joiner, 8, 9)
    (joiner.datadir / "mysql-bin.000004").write_text("not in the index")
    (joiner.datadir / "mysql-bin.4.old").write_text("not in the index either")
    moved = tmp_path / "mysql-bin.000007"
    moved.write_text("in the index, elsewhere")
    joiner.index.write_text(f"{moved}\n./mysql-bin.000008\n./gone.000001\n")
    binlog.unpack(joiner, packed(donor), unhindered)
    assert contents(joiner.datadir) == contents(donor.datadir)
    assert not moved.exists()


def test_a_binlog_elsewhere_that_can_not_be_removed_is_told_and_ends_nothing(
    tmp_path: Path, donor: BinlogPlace, joiner: BinlogPlace, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = tmp_path / "former" / "mysql-bin.000001"
    stuck.mkdir(parents=True)
    joiner.index.write_text(f"{stuck}\n")
    binlog.unpack(joiner, packed(donor), unhindered)
    assert contents(joiner.datadir) == contents(donor.datadir)
    assert f"the old binlog {stuck} can't be removed" in caplog.text


def test_what_is_no_binlog_of_ours_stays(donor: BinlogPlace, joiner: BinlogPlace) -> None:
    others = ["ibdata1", "mysql-bin.state", "mysql-binary.000001", "mysql-bin000001", "relay-bin.000001"]
    for name in others:
        (joiner.datadir / name).write_text("keep me")
    (joiner.datadir / "mysql-bin.0").mkdir()
    joiner.index.write_text("./ibdata1\n")
    binlog.unpack(joiner, packed(donor), unhindered)
    assert {name for name, content in contents(joiner.datadir).items() if content == b"keep me"} == set(others)
    assert (joiner.datadir / "mysql-bin.0").is_dir()


def test_an_archive_without_binlogs_empties_the_index(tmp_path: Path, joiner: BinlogPlace) -> None:
    donor = make_place(tmp_path / "donor", most=0)
    fill(donor, 1)
    fill(joiner, 1)
    assert binlog.unpack(joiner, packed(donor), unhindered) == []
    assert contents(joiner.datadir) == {"mysql-bin.index": b""}


@pytest.mark.parametrize(
    "member",
    [
        *(
            plain(name)
            for name in ("a/b.000001", "../b.000001", "/b.000001", "..", ".", "./b.000001", "ibdata1", "x.index")
        ),
        *(plain(name) for name in ("a\nb.000001", "x.000001\n", ".my.cnf", "b.")),
        *(special(kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)),
        *(special(kind) for kind in (tarfile.FIFOTYPE, tarfile.DIRTYPE)),
    ],
    ids=lambda member: f"{member.type!r} {member.name!r}",
)
def test_an_archive_with_anything_but_binlogs_is_refused_whole(joiner: BinlogPlace, member: tarfile.TarInfo) -> None:
    fill(joiner, 1)
    before = contents(joiner.datadir)
    archive = archive_of((plain("good.000001"), b"x"), (member, b""))
    with pytest.raises(SstError, match="which is no binlog: nothing of it was unpacked"):
        binlog.unpack(joiner, archive, unhindered)
    assert contents(joiner.datadir) == before


def test_an_archive_that_holds_a_name_twice_is_refused(joiner: BinlogPlace) -> None:
    with pytest.raises(SstError, match=r"holds 'b\.000001' twice"):
        binlog.unpack(joiner, archive_of((plain("b.000001"), b"x"), (plain("b.000001"), b"y")), unhindered)


def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path: Path, joiner: BinlogPlace) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (joiner.datadir / "other.000001").symlink_to(victim)
    joiner.index.symlink_to(victim)
    binlog.unpack(joiner, archive_of((plain("other.000001"), b"new")), unhindered)
    assert victim.read_text() == "untouched"
    assert contents(joiner.datadir) == {"other.000001": b"new", "mysql-bin.index": b"./other.000001\n"}
    assert not joiner.index.is_symlink()


@pytest.mark.parametrize(("sent", "kept"), [(0o640, 0o640), (0o4777, 0o666), (0o000, 0o600)])
def test_a_binlog_s_mode_is_kept_but_never_executable(joiner: BinlogPlace, sent: int, kept: int) -> None:
    umask = os.umask(0o077)
    try:
        binlog.unpack(joiner, archive_of((plain("b.000001", sent), b"x")), unhindered)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((joiner.datadir / "b.000001").stat().st_mode) == kept


def test_a_truncated_archive_is_refused_before_anything_is_removed(donor: BinlogPlace, joiner: BinlogPlace) -> None:
    fill(joiner, 1)
    before = contents(joiner.datadir)
    whole = archive_of((plain("b.000001"), b"x" * 100_000)).getvalue()
    with pytest.raises(SstError, match="the archive is broken") as caught:
        binlog.unpack(joiner, io.BytesIO(whole[:50_000]), unhindered)
    assert caught.value.exit_code == ExitCode.BROKEN_OFF
    assert contents(joiner.datadir) == before


@pytest.mark.parametrize("garbage", [b"", b"x" * 5000])
def test_what_is_no_archive_is_refused(joiner: BinlogPlace, garbage: bytes) -> None:
    with pytest.raises(SstError, match="the archive is broken"):
        binlog.unpack(joiner, io.BytesIO(garbage), unhindered)


def test_a_missing_index_is_a_clear_error(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    with pytest.raises(SstError, match=f"can't be packed: {place.index} is missing") as caught:
        binlog.pack(place, io.BytesIO(), unhindered)
    assert caught.value.exit_code == ExitCode.MISSING


def test_a_missing_binlog_is_a_clear_error(donor: BinlogPlace) -> None:
    missing = donor.datadir / "mysql-bin.000002"
    missing.unlink()
    with pytest.raises(SstError, match=f"{missing} is missing"):
        binlog.pack(donor, io.BytesIO(), unhindered)


def test_packing_can_be_ended_within_a_binlog(donor: BinlogPlace) -> None:
    os.truncate(donor.datadir / "mysql-bin.000001", 2**26)
    archive = io.BytesIO()
    with pytest.raises(Halt):
        binlog.pack(donor, archive, after(3))
    assert len(archive.getvalue()) < 2**23


def test_unpacking_can_be_ended_and_leaves_no_half_and_no_index_of_what_is_not_there(
    donor: BinlogPlace, joiner: BinlogPlace
) -> None:
    os.truncate(donor.datadir / "mysql-bin.000002", 2**24)
    fill(joiner, 7)
    archive = packed(donor)
    with pytest.raises(Halt):
        binlog.unpack(joiner, archive, after(4))
    assert contents(joiner.datadir) == {"mysql-bin.index": b""}


@pytest.mark.parametrize("missing", ["mysql-bin.index", "mysql-bin.000002"])
def test_what_is_missing_is_found_without_packing(donor: BinlogPlace, missing: str) -> None:
    (donor.datadir / missing).unlink()
    with pytest.raises(SstError, match=f"can't be packed: {donor.datadir / missing} is missing") as caught:
        binlog.check_packing(donor, donor.datadir)
    assert caught.value.exit_code == ExitCode.MISSING


def test_a_binlog_that_is_purged_while_we_look_is_not_missed(
    donor: BinlogPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_index = binlog._read_index

    def read_and_purge(place: BinlogPlace) -> list[Path]:
        found = read_index(place)
        (donor.datadir / "mysql-bin.000001").unlink(missing_ok=True)
        donor.index.write_text("./mysql-bin.000002\n")
        return found

    monkeypatch.setattr(binlog, "_read_index", read_and_purge)
    binlog.check_packing(donor, donor.datadir)


def test_binlogs_that_are_larger_than_the_free_space_are_not_packed(donor: BinlogPlace) -> None:
    os.truncate(donor.datadir / "mysql-bin.000001", 2**43)
    with pytest.raises(SstError, match=rf"can't be packed: No space left on device: \d+ bytes .*\({donor.datadir}\)"):
        binlog.check_packing(donor, donor.datadir)


def test_only_the_binlogs_that_travel_need_space(donor: BinlogPlace) -> None:
    os.truncate(donor.datadir / "mysql-bin.000001", 2**43)
    binlog.check_packing(replace(donor, most=1), donor.datadir)


def test_binlogs_that_are_larger_than_the_free_space_replace_none(joiner: BinlogPlace) -> None:
    fill(joiner, 1)
    before = contents(joiner.datadir)
    with tempfile.TemporaryFile(dir=joiner.datadir) as archive:
        member = plain("b.000001")
        member.size = 2**43
        archive.write(member.tobuf(tarfile.GNU_FORMAT))
        os.truncate(archive.fileno(), 512 + 2**43 + 1024)
        archive.seek(0)
        with pytest.raises(SstError, match=r"can't be unpacked into .*: No space left on device"):
            binlog.unpack(joiner, archive, unhindered)
    assert contents(joiner.datadir) == before


def test_two_binlogs_of_one_name_are_refused(tmp_path: Path, donor: BinlogPlace) -> None:
    donor.index.write_text(f"./mysql-bin.000001\n{tmp_path}/mysql-bin.000001\n")
    with pytest.raises(SstError, match="two binlogs of one name"):
        binlog.pack(donor, io.BytesIO(), unhindered)


def test_a_directory_where_a_binlog_should_go_is_a_clear_error(joiner: BinlogPlace) -> None:
    (joiner.datadir / "b.000001").mkdir()
    with pytest.raises(SstError, match=r"can't be unpacked into .*b\.000001"):
        binlog.unpack(joiner, archive_of((plain("b.000001"), b"x")), unhindered)


names = st.from_regex(r"[A-Za-z0-9_. -]{1,40}\.[0-9]{1,9}", fullmatch=True)


@settings(deadline=None)
@given(st.dictionaries(names, st.binary(max_size=2000), max_size=5))
def test_any_binlogs_come_out_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, binlogs: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("binlogs")
    donor, joiner = make_place(root / "donor"), make_place(root / "joiner", "x")
    donor.datadir.mkdir()
    for name, content in binlogs.items():
        (donor.datadir / name).write_bytes(content)
    donor.index.write_text("".join(f"./{name}\n" for name in binlogs))
    assert binlog.unpack(joiner, packed(donor), unhindered) == list(binlogs)
    assert contents(joiner.datadir) == binlogs | {"x.index": donor.index.read_bytes()}
