"""A whole transfer between two played servers: what arrives, what is deleted, what is said."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from lab.certificates import Identity, self_signed
from tests.support.programs import needs
from tests.support.sst import INNODB, POSITION, PlayedServer, Run, finish

pytestmark = needs("rsync", "my_print_defaults")

Pair = tuple[PlayedServer, PlayedServer]


@pytest.fixture(name="pair")
def fixture_pair(tmp_path: Path) -> Pair:
    """Two nodes that trust each other; both are localhost."""
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor, joiner = (
        PlayedServer(tmp_path / name).use(own, identities)
        for name, own in zip(("donor", "joiner"), identities, strict=True)
    )
    return donor, joiner


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def transfer(pair: Pair) -> tuple[Run, Run]:
    """A full transfer from the first to the second; both must end well."""
    donor, joiner = pair
    joining = joiner.start_joiner()
    donating = donor.start_donor(joining.ready())
    donating.expect("flush tables")
    donor.flush()
    finish(donating, joining)
    return donating, joining


def tree(root: Path) -> dict[str, str]:
    """All files below `root` and what they hold."""
    files = [Path(directory) / name for directory, _, names in os.walk(root) for name in names]
    return {str(path.relative_to(root)): path.read_text() for path in files}


def bytes_on_the_wire(donating: Run) -> int:
    """What the donor's log says that it sent, in bytes."""
    match = re.search(r"sent .* \((\d+) bytes\)", donating.log)
    assert match is not None, donating.log
    return int(match[1])


def test_schemas_and_sets_arrive_and_what_the_donor_lacks_is_deleted(pair: Pair) -> None:
    donor, joiner = pair
    for name in ("shop/orders.ibd", "shop/part/p0.ibd", "ibdata1", "ib_logfile0", "undo001", "aria_log_control"):
        write(donor.datadir / name, f"new {name}")
    (donor.datadir / "empty").mkdir()
    write(donor.datadir / "auto.cnf", "the donor's own")
    for name in ("shop/dropped.ibd", "old_schema/t.ibd", "ib_logfile1", "undo002", "aria_log.00000009", "ibdata1"):
        write(joiner.datadir / name, "old")
    write(joiner.datadir / "auto.cnf", "the joiner's own")
    transfer(pair)
    expected = tree(donor.datadir) | {"auto.cnf": "the joiner's own"}
    assert tree(joiner.datadir) == expected
    assert (joiner.datadir / "empty").is_dir()


def test_nothing_is_left_on_either_node(pair: Pair) -> None:
    write(pair[0].datadir / "shop" / "t.ibd", "x")
    transfer(pair)
    assert [server.remains() for server in pair] == [[], []]


@pytest.mark.parametrize("tmpdir", [".", "tmp", "shop/tmp"])
def test_a_directory_for_temporary_files_in_the_datadir_stays_the_node_s_own(pair: Pair, tmpdir: str) -> None:
    donor, joiner = pair
    write(donor.datadir / "shop" / "t.ibd", "new")
    for server in pair:
        server.tmp = f"data/{tmpdir}"
        server.tmpdir.mkdir(parents=True, exist_ok=True)
    if tmpdir != ".":
        write(joiner.tmpdir / "own", "the joiner's")
        write(donor.tmpdir / "other", "the donor's")
    transfer(pair)
    own = {} if tmpdir == "." else {f"{tmpdir}/own": "the joiner's"}
    assert tree(joiner.datadir) == {"shop/t.ibd": "new"} | INNODB | own
    assert not list(joiner.datadir.rglob("pytunnel-*"))


@pytest.mark.parametrize("options", [{"wsrep-data-home-dir": "galera"}, {}])
def test_the_files_of_galera_s_provider_in_a_directory_of_the_datadir_stay_the_node_s_own(
    pair: Pair, options: dict[str, str]
) -> None:
    donor, joiner = pair
    write(donor.datadir / "shop" / "t.ibd", "new")
    for server in pair:
        server.server_options |= options
        write(server.datadir / "galera" / "galera.cache", server.root.name)
    write(joiner.datadir / "galera" / "gcache.page.000000", "joiner")
    transfer(pair)
    own = {"galera/galera.cache": "joiner", "galera/gcache.page.000000": "joiner"}
    assert tree(joiner.datadir) == {"shop/t.ibd": "new"} | INNODB | own


@pytest.mark.parametrize("place", ["ssl", "etc/ssl", "."])
def test_certificates_and_keys_in_the_datadir_stay_the_node_s_own(pair: Pair, place: str) -> None:
    donor, joiner = pair
    write(donor.datadir / "shop" / "t.ibd", "new")
    before = {}
    for server in pair:
        (server.datadir / place).mkdir(parents=True, exist_ok=True)
        for key in ("tcert", "tca"):
            moved = server.datadir / place / Path(server.options[key]).name
            Path(server.options[key]).rename(moved)
            server.options[key] = str(moved)
        before[server.datadir] = tree(server.datadir)
    transfer(pair)
    assert tree(joiner.datadir) == before[joiner.datadir] | {"shop/t.ibd": "new"} | INNODB
    assert before[joiner.datadir] != before[donor.datadir]


def test_an_old_schema_is_deleted_also_where_the_donor_has_something_else_of_its_name(pair: Pair) -> None:
    donor, joiner = pair
    donor.server_options |= {"innodb-undo-directory": "new logs", "aria-log-dir-path": "aria"}
    joiner.server_options["innodb-log-group-home-dir"] = "new logs"
    for path in ("shop/t.ibd", "new logs/undo001", "aria/aria_log_control"):
        write(donor.datadir / path, "new")
    for path in ("aria/dropped.ibd", "new logs/own"):
        write(joiner.datadir / path, "old")
    transfer(pair)
    assert tree(joiner.datadir) == {
        "shop/t.ibd": "new",
        "undo001": "new",
        "aria_log_control": "new",
        "new logs/own": "old",
        "new logs/ib_logfile0": "",
        "ibdata1": "",
    }


def test_a_datadir_that_is_a_link_has_its_sets_where_they_are(pair: Pair) -> None:
    for server in pair:
        real = server.root / "real"
        server.datadir.rename(real)
        server.datadir.symlink_to(real)
        server.server_options |= {"aria-log-dir-path": f"{real}/aria", "log-bin": f"{real}/logs/bin"}
        write(real / "aria" / "aria_log_control", server.root.name)
        for number in (1, 2):
            write(real / "logs" / f"bin.00000{number}", server.root.name)
        write(real / "logs" / "bin.index", "".join(f"{real}/logs/bin.00000{number}\n" for number in (1, 2)))
    joiner = pair[1]
    write(pair[0].datadir / "shop" / "t.ibd", "donor")
    transfer(pair)
    real = joiner.root / "real"
    assert tree(real) == INNODB | {
        "shop/t.ibd": "donor",
        "aria/aria_log_control": "donor",
        "logs/bin.000002": "donor",
        "logs/bin.index": f"{real}/logs/bin.000002\n",
    }


def test_names_are_data_whatever_they_hold(pair: Pair) -> None:
    donor, joiner = pair
    for schema in ("#odd@0023", "-rf", "a b", "new\nline", "ünï", "--delete", "*", "$(reboot)"):
        write(donor.datadir / schema / "- t;#1\n.ibd", schema)
    transfer(pair)
    assert tree(joiner.datadir) == tree(donor.datadir)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_transfer_is_complete_and_sends_less(pair: Pair, compression: str) -> None:
    donor, joiner = pair
    donor.options["compress"] = compression
    write(donor.datadir / "shop" / "t.ibd", "the same again " * 200_000)
    write(donor.datadir / "ibdata1", "and again " * 100_000)
    donating, _ = transfer(pair)
    assert tree(joiner.datadir) == tree(donor.datadir)
    assert bytes_on_the_wire(donating) < 500_000


def test_a_delta_sends_what_the_joiner_has_not(pair: Pair) -> None:
    donor, joiner = pair
    donor.options["delta"] = "1"
    numbers = [str(number).rjust(15) for number in range(200_000)]
    write(joiner.datadir / "shop" / "t.ibd", "".join(numbers))
    numbers[100_000] = "another".rjust(15)
    write(donor.datadir / "shop" / "t.ibd", "".join(numbers))
    donating, _ = transfer(pair)
    assert tree(joiner.datadir) == tree(donor.datadir)
    assert bytes_on_the_wire(donating) < 500_000


def test_a_compression_that_the_donors_rsync_lacks_is_refused_before_the_flush(pair: Pair, tmp_path: Path) -> None:
    donor, joiner = pair
    donor.options["compress"] = "zstd"
    programs = tmp_path / "bin"
    real = shutil.which("rsync")
    old = "[ \"$1\" = --version ] && echo 'rsync  version 3.1.3' && exit"
    write(programs / "rsync", f'#!/bin/sh\n{old}\nexec {real} "$@"\n')
    (programs / "rsync").chmod(0o755)
    joining = joiner.start_joiner()
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    donating = donor.start_donor(joining.ready(), environment=environment)
    assert donating.end() == 22
    assert "compress in [sst] is 'zstd', and this node's rsync has none" in donating.log
    joining.end()


def test_a_file_of_the_same_size_and_time_is_still_sent(pair: Pair) -> None:
    donor, joiner = pair
    for server, content in ((donor, "new"), (joiner, "old")):
        write(server.datadir / "shop" / "t.ibd", content)
        os.utime(server.datadir / "shop" / "t.ibd", (1, 1))
    transfer(pair)
    assert (joiner.datadir / "shop" / "t.ibd").read_text() == "new"


def test_owner_mode_and_links_are_kept(pair: Pair) -> None:
    donor, joiner = pair
    write(donor.datadir / "shop" / "t.ibd", "x")
    (donor.datadir / "shop" / "t.ibd").chmod(0o640)
    (donor.datadir / "shop" / "link").symlink_to("t.ibd")
    transfer(pair)
    assert (joiner.datadir / "shop" / "t.ibd").stat().st_mode & 0o7777 == 0o640
    assert (joiner.datadir / "shop" / "link").readlink() == Path("t.ibd")


def test_sets_go_to_the_directories_of_each_node_even_inside_the_datadir(pair: Pair) -> None:
    donor, joiner = pair
    donor.server_options |= {"innodb-log-group-home-dir": "redo", "innodb-undo-directory": str(donor.root / "undo")}
    joiner.server_options |= {"aria-log-dir-path": "aria logs", "innodb-data-home-dir": str(joiner.root / "sys")}
    for path in ("data/redo/ib_logfile0", "undo/undo001", "data/ibdata1", "data/aria_log_control", "data/shop/t.ibd"):
        write(donor.root / path, path)
    write(joiner.datadir / "aria logs" / "aria_log.00000007", "old")
    write(joiner.datadir / "aria logs" / "notes", "not a log")
    transfer(pair)
    assert tree(joiner.datadir) == {
        "ib_logfile0": "data/redo/ib_logfile0",
        "undo001": "undo/undo001",
        "aria logs/aria_log_control": "data/aria_log_control",
        "aria logs/notes": "not a log",
        "shop/t.ibd": "data/shop/t.ibd",
    }
    assert tree(joiner.root / "sys") == {"ibdata1": "data/ibdata1"}


def test_binlogs_that_a_killed_run_left_packed_are_not_taken_for_the_donors(pair: Pair, tmp_path: Path) -> None:
    donor, joiner = pair
    joiner.server_options["log-bin"] = "bin"
    write(donor.datadir / "shop" / "t.ibd", "x")
    own = {"bin.000007": "own", "bin.index": "./bin.000007\n"}
    for name, content in own.items():
        write(joiner.datadir / name, content)
    write(tmp_path / "stale.000003", "of another time")
    with tarfile.open(joiner.datadir / "wsrep_sst_binlog.tar", "w") as archive:
        archive.add(tmp_path / "stale.000003", "stale.000003")
    transfer(pair)
    assert tree(joiner.datadir) == own | {"shop/t.ibd": "x"} | INNODB


def test_an_index_that_also_names_binlogs_in_a_former_directory_ends_no_transfer(pair: Pair) -> None:
    donor, joiner = pair
    new, old = joiner.root / "new", joiner.root / "old"
    donor.server_options["log-bin"] = "bin"
    joiner.server_options["log-bin"] = str(new / "bin")
    write(donor.datadir / "bin.000009", "nine")
    write(donor.datadir / "bin.index", "./bin.000009\n")
    write(old / "bin.000001", "one")
    write(new / "bin.000002", "two")
    write(new / "bin.index", f"{old}/bin.000001\n{new}/bin.000002\n")
    _, joining = transfer(pair)
    assert tree(new) == {"bin.000009": "nine", "bin.index": f"{new}/bin.000009\n"}
    assert not (old / "bin.000001").exists() or f"the old binlog {old}/bin.000001 can't be removed" in joining.log


def test_missing_directories_of_binlogs_are_made_before_the_joiner_is_confined(pair: Pair) -> None:
    donor, joiner = pair
    donor.server_options["log-bin"] = "bin"
    joiner.server_options |= {"log-bin": str(joiner.root / "a" / "b" / "bin"), "log-bin-index": "names/bin.index"}
    write(donor.datadir / "bin.000009", "nine")
    write(donor.datadir / "bin.index", "./bin.000009\n")
    joining = joiner.start_joiner()
    ready = joining.ready()
    assert (joiner.root / "a" / "b").is_dir()
    assert (joiner.datadir / "names").is_dir()
    donating = donor.start_donor(ready)
    donating.expect("flush tables")
    donor.flush()
    donating.expect("continue")
    assert (donating.end(), joining.end()) == (0, 0), joining.log
    assert tree(joiner.root / "a") == {"b/bin.000009": "nine"}
    assert tree(joiner.datadir) == {"names/bin.index": f"{joiner.root}/a/b/bin.000009\n"} | INNODB


def test_ist_sends_the_position_and_nothing_else(pair: Pair) -> None:
    donor, joiner = pair
    write(donor.datadir / "shop" / "t.ibd", "new")
    write(joiner.datadir / "shop" / "t.ibd", "old")
    joining = joiner.start_joiner()
    donating = donor.start_donor(joining.ready(), "--bypass")
    donating.expect("continue")
    donating.expect(f"done {POSITION}")
    joining.expect(POSITION)
    assert (donating.end(), joining.end()) == (0, 0)
    assert tree(joiner.datadir) == {"shop/t.ibd": "old"}
    assert [server.remains() for server in pair] == [[], []]


def test_the_log_tells_bytes_files_rate_cipher_and_peer(pair: Pair) -> None:
    write(pair[0].datadir / "shop" / "t.ibd", "x" * 100_000)
    donating, joining = transfer(pair)
    for run, verb in ((donating, "sent"), (joining, "received")):
        assert f"{verb} " in run.log
        assert " in 4 files in " in run.log
        assert "/s; TLSv1.3 TLS_AES_128_GCM_SHA256 with CN=localhost" in run.log


def test_the_secret_is_in_no_log_and_no_argument(pair: Pair) -> None:
    donor, joiner = pair
    write(donor.datadir / "shop" / "t.ibd", "x")
    joining = joiner.start_joiner()
    ready = joining.ready()
    assert ready.secret is not None
    password = ready.secret.partition(":")[2]
    donating = donor.start_donor(ready)
    donating.expect("flush tables")
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    donor.flush()
    donating.expect("continue")
    assert (donating.end(), joining.end()) == (0, 0)
    assert password not in donating.log + joining.log
    assert not any(password.encode() in command for command in commands)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_enough_where_its_name_leads_back_to_it(pair: Pair, host: str) -> None:
    donor, joiner = pair
    joiner.host = host
    write(donor.datadir / "shop" / "t.ibd", "x")
    if host == "::1":
        own = self_signed("::1")
        trusted: list[Identity] = [own]
        joiner.use(own, trusted)
        donor.use(own, trusted)
        joiner.host = "[::1]"
    transfer(pair)
