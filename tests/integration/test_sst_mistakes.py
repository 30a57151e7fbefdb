"""Mistakes that are found while nothing is lost: before a joiner is ready, before a donor has its tables flushed."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lab.certificates import expired, self_signed
from tests.support.programs import needs
from tests.support.sst import PlayedServer, assert_ended, assert_old_data

pytestmark = needs("rsync", "my_print_defaults")


def assert_not_ready(joiner: PlayedServer, error: str) -> None:
    """A joiner says what is wrong in place of its ready line."""
    run = joiner.start_joiner()
    assert run.line() == ""
    assert_ended(run, error, 22)


def assert_not_flushed(joiner: PlayedServer, donor: PlayedServer, error: str, status: int) -> None:
    """A donor says what is wrong before it has its tables flushed, and the joiner's data is as it was."""
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    assert run.line() == ""
    assert_ended(run, error, status)
    assert_old_data(joiner)
    receiving.process.kill()
    receiving.end()


def test_a_certificate_of_another_name_is_found_before_the_node_is_ready(joiner: PlayedServer) -> None:
    other = self_signed("node9.my.cluster")
    assert_not_ready(joiner.use(other, [other]), "announces itself as 127.0.0.1, but its certificate")


def test_an_expired_certificate_is_found_before_the_node_is_ready(joiner: PlayedServer) -> None:
    authority = self_signed("authority")
    assert_not_ready(joiner.use(expired(authority, "localhost"), [authority]), "expired on")


def test_a_key_of_another_certificate_is_found_before_the_node_is_ready(joiner: PlayedServer) -> None:
    key = joiner.root / "other.key"
    key.touch(mode=0o600)
    key.write_bytes(self_signed("localhost").key_pem())
    joiner.options["tkey"] = str(key)
    assert_not_ready(joiner, "does not belong to the certificate")


@pytest.mark.parametrize("key", ["tcert", "tkey", "tca"])
def test_a_missing_file_is_named(joiner: PlayedServer, key: str) -> None:
    joiner.options[key] = "/nowhere/file.pem"
    assert_ended(joiner.start_joiner(), "/nowhere/file.pem does not exist", 2)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sockopt", "verify=0,fork", "fork"),
        ("backup-threads", "many", "backup-threads in [sst] is 'many'; expected a number from 1 to 64"),
        ("legacy-donor", "perhaps", "legacy-donor in [sst] is 'perhaps'; expected 1 or 0"),
        ("tca", "", "tca in [sst] is empty"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_possible(joiner: PlayedServer, key: str, value: str, words: str) -> None:
    joiner.options[key] = value
    assert_ended(joiner.start_joiner(), words, 22)


def test_a_port_that_is_taken_has_its_own_exit_code(joiner: PlayedServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        run = joiner.start("joiner", f"127.0.0.1:{other.getsockname()[1]}")
        assert_ended(run, "another program listens there", 16)


def test_an_argument_that_makes_no_sense_is_one_sentence(joiner: PlayedServer) -> None:
    assert_ended(joiner.start("both", "localhost"), "role", 22)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("shop/t.MYD", "shop/t.MYD -> /elsewhere"),
        ("ibdata1", "ibdata1 (InnoDB system tablespace) is a symbolic link to /elsewhere"),
        ("shop/far.isl", "the table shop/far was made with DATA DIRECTORY"),
    ],
)
def test_data_that_would_stay_behind_is_refused_before_the_flush(
    joiner: PlayedServer, donor: PlayedServer, link: str, said: str
) -> None:
    if link.endswith(".isl"):
        (donor.datadir / link).write_text("/elsewhere")
    else:
        (donor.datadir / link).symlink_to("/elsewhere")
    assert_not_flushed(joiner, donor, said, 22)


@pytest.mark.parametrize("schema", ["mysql", "shop"])
def test_a_joiner_whose_schema_is_a_link_is_refused_while_its_old_data_is_whole(
    joiner: PlayedServer, schema: str
) -> None:
    (joiner.datadir / "ibdata1").write_text("old")
    (joiner.root / "disk").mkdir()
    (joiner.root / "disk" / "user.frm").write_text("old")
    link = joiner.datadir / schema
    if link.is_dir():
        link.rename(joiner.root / "moved")
    link.symlink_to(joiner.root / "disk")
    assert_not_ready(joiner, f"{link} is a symbolic link to the directory {joiner.root}/disk")
    assert (joiner.datadir / "ibdata1").read_text() == "old"
    assert (link / "user.frm").read_text() == "old"


def test_a_schema_that_would_stay_behind_for_what_else_lies_in_it_is_named(joiner: PlayedServer) -> None:
    (joiner.datadir / "shop" / "db.opt").touch()
    (joiner.datadir / "shop" / "node.pem").write_bytes(Path(joiner.options["tcert"]).read_bytes())
    (joiner.datadir / "shop" / "node.pem").chmod(0o600)
    joiner.options["tcert"] = str(joiner.datadir / "shop" / "node.pem")
    assert_not_ready(joiner, f"{joiner.datadir}/shop is a schema, and something else is placed there too")
    assert_old_data(joiner)


def test_a_set_directory_that_is_missing_is_named_before_the_flush(joiner: PlayedServer, donor: PlayedServer) -> None:
    donor.server_options["innodb-undo-directory"] = "/nowhere"
    assert_not_flushed(joiner, donor, "the directory of the undo tablespaces, /nowhere, is not there", 2)


def test_a_donor_whose_system_tablespace_has_another_name_is_refused_before_the_flush(
    joiner: PlayedServer, donor: PlayedServer
) -> None:
    donor.innodb = False
    donor.server_options["innodb-data-file-path"] = "main1:12M:autoextend"
    for name in ("main1", "ib_logfile0"):
        (donor.datadir / name).touch()
    receiving = joiner.start_joiner()
    run = donor.start_donor(receiving.ready())
    assert run.line() == ""
    said = "innodb-data-file-path names main1, and of the InnoDB system tablespace this SST method carries ibdata*"
    assert_ended(run, said, 22)
    assert_ended(receiving, f"the donor gave up: {said}", 32)
    assert_old_data(joiner)


def test_a_missing_index_of_binlogs_is_named_before_the_flush(joiner: PlayedServer, donor: PlayedServer) -> None:
    donor.server_options["log-bin"] = "bin"
    assert_not_flushed(joiner, donor, f"{donor.datadir}/bin.index is missing", 2)


def test_a_directory_that_cannot_be_made_is_named(joiner: PlayedServer) -> None:
    (joiner.root / "file").touch()
    joiner.server_options["aria-log-dir-path"] = str(joiner.root / "file" / "aria")
    assert_ended(joiner.start_joiner(), f"{joiner.root}/file/aria: Not a directory", 255)
