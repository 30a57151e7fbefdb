"""The server's call of the script: real calls of MariaDB 10.11, and every way in which they may differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sst.address import Address
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.request import Request, Role, ServerOption, ServerPaths, parse_mysqld_args, parse_request
from pytunnel.sst.rsync import Secret

GTID = "efb4ab73-e634-11f1-82d2-575ba9d2c344:2"
JOINER = [
    *("--role", "joiner", "--address", "127.0.0.1:4632", "--datadir", "/db/n2/", "--defaults-file", "/db/my2.cnf"),
    *("--parent", "17092", "--progress", "0", "--binlog", "foo", "--binlog-index", "idx.txt"),
    *("--mysqld-args", "--defaults-file=/db/my2.cnf", "--innodb_undo_directory=x/undo"),
]
DONOR = [
    *("--role", "donor", "--address", "127.0.0.1:4999/rsync_tunnel_sst", "--local-port", "3401", "--socket", "/db/s1"),
    *("--progress", "0", "--datadir", "/db/n1/", "--defaults-file", "/db/my1.cnf", "--gtid", GTID),
    *("--gtid-domain-id", "0", "--binlog", "vm-bin", "--mysqld-args", "--wsrep-new-cluster"),
]
DONOR_ENVIRONMENT = {
    "WSREP_SST_OPT_REMOTE_AUTH": "user1:secret2",
    "INNODB_DATA_HOME_DIR": "./",
    "WSREP_SST_OPT_AUTH": "au:th",
    "PATH": "/usr/bin",
}
SHORTEST = ["--role", "joiner", "--address", "node2", "--datadir", "/db"]


def refusal(arguments: list[str], environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SstError) as caught:
        parse_request(arguments, environment or {})
    assert caught.value.exit_code == ExitCode.BAD_SETTING
    return str(caught.value)


def test_a_joiner_s_call_is_understood() -> None:
    assert parse_request(JOINER, {}) == Request(
        role=Role.JOINER,
        address=Address("127.0.0.1", 4632),
        datadir=Path("/db/n2"),
        defaults_file=Path("/db/my2.cnf"),
        parent=17092,
        paths=ServerPaths(log_bin="foo", log_bin_index="idx.txt"),
        mysqld_args=(
            ServerOption("defaults-file", "/db/my2.cnf"),
            ServerOption("innodb-undo-directory", "x/undo"),
        ),
    )


def test_a_donor_s_call_is_understood() -> None:
    assert parse_request(DONOR, DONOR_ENVIRONMENT) == Request(
        role=Role.DONOR,
        address=Address("127.0.0.1", 4999, "rsync_tunnel_sst"),
        datadir=Path("/db/n1"),
        defaults_file=Path("/db/my1.cnf"),
        gtid=GTID,
        gtid_domain_id=0,
        auth="au:th",
        secret=Secret("user1", "secret2"),
        paths=ServerPaths(log_bin="vm-bin"),
        environment_paths=ServerPaths(data_home="./"),
        mysqld_args=(ServerOption("wsrep-new-cluster"),),
    )


def test_bypass_is_a_flag_that_takes_no_word() -> None:
    request = parse_request(["--bypass", *DONOR], {})
    assert request.bypass
    assert request.role is Role.DONOR


def test_bypass_without_a_position_is_refused() -> None:
    assert "--bypass was passed without --gtid" in refusal([*SHORTEST, "--bypass"])


def test_bypass_needs_no_domain_which_only_mariadb_has() -> None:
    request = parse_request([*SHORTEST, "--gtid", GTID, "--bypass"], {})
    assert (request.bypass, request.gtid, request.gtid_domain_id) == (True, GTID, None)


@pytest.mark.parametrize("position", [0, len(SHORTEST)])
def test_an_empty_word_in_the_place_of_an_option_is_passed_over(position: int) -> None:
    words = ["--mysqld-version", "8.0.36-28.1", ""]
    assert parse_request([*SHORTEST[:position], *words, *SHORTEST[position:]], {}) == parse_request(SHORTEST, {})


def test_every_set_s_own_option_is_understood() -> None:
    paths = {
        "--innodb-data-home-dir": "data_home",
        "--innodb-log-group-home-dir": "redo",
        "--innodb-undo-directory": "undo",
        "--aria-log-dir-path": "aria",
        "--log-bin": "log_bin",
        "--log-bin-index": "log_bin_index",
        "--log-basename": "log_basename",
    }
    words = [word for option, field in paths.items() for word in (option, f"/{field}")]
    assert parse_request([*SHORTEST, *words], {}).paths == ServerPaths(**{f: f"/{f}" for f in paths.values()})


@pytest.mark.parametrize("order", [["--binlog", "a", "--log-bin", "b"], ["--log-bin", "b", "--binlog", "a"]])
def test_the_binlog_that_the_server_uses_goes_before_its_option(order: list[str]) -> None:
    assert parse_request([*SHORTEST, *order], {}).paths.log_bin == "a"


def test_option_files_are_passed_on() -> None:
    request = parse_request([*SHORTEST, "--defaults-extra-file", "/x", "--defaults-group-suffix", ".2"], {})
    assert (request.defaults_file, request.defaults_extra_file, request.defaults_group_suffix) == (
        None,
        Path("/x"),
        ".2",
    )


@pytest.mark.parametrize("unknown", [["--new-option", "value"], ["--new-flag"], ["--new=value"], ["--socket", "/s"]])
def test_an_unknown_option_is_passed_over_with_its_value(unknown: list[str]) -> None:
    assert parse_request([*unknown, *SHORTEST], {}) == parse_request(SHORTEST, {})


@pytest.mark.parametrize("unset", ["(null)", ""])
def test_null_means_unset(unset: str) -> None:
    words = ["--defaults-file", unset, "--binlog", unset, "--gtid", unset, "--parent", unset]
    variables = ("WSREP_SST_OPT_REMOTE_AUTH", "INNODB_UNDO_DIR", "WSREP_LOG_DIR", "MYSQL_TMP_DIR")
    assert parse_request([*SHORTEST, *words], dict.fromkeys(variables, unset)) == parse_request(SHORTEST, {})


def test_the_environment_names_directories() -> None:
    environment = {
        "INNODB_DATA_HOME_DIR": "/d",
        "INNODB_LOG_GROUP_HOME": "/l",
        "INNODB_UNDO_DIR": "/u",
        "MYSQL_TMP_DIR": "/t",
    }
    request = parse_request(SHORTEST, environment)
    assert request.environment_paths == ServerPaths(data_home="/d", redo="/l", undo="/u", tmpdir="/t")


def test_the_environment_s_tmpdir_for_the_server_goes_before_that_of_all_programs() -> None:
    assert parse_request(SHORTEST, {"TMPDIR": "/x"}).environment_paths.tmpdir == "/x"
    assert parse_request(SHORTEST, {"MYSQL_TMP_DIR": "/a", "TMPDIR": "/x"}).environment_paths.tmpdir == "/a"


def test_the_log_directory_of_this_transfer_goes_before_innodb_s() -> None:
    environment = {"WSREP_LOG_DIR": "/w", "INNODB_LOG_GROUP_HOME": "/l"}
    assert parse_request(SHORTEST, environment).environment_paths.redo == "/w"


def test_the_secret_may_hold_colons() -> None:
    request = parse_request(SHORTEST, {"WSREP_SST_OPT_REMOTE_AUTH": "user:a:b"})
    assert request.secret == Secret("user", "a:b")


def test_the_secret_is_never_shown() -> None:
    environment = {"WSREP_SST_OPT_REMOTE_AUTH": "user:TopSecret", "WSREP_SST_OPT_AUTH": "root:TopSecret"}
    assert "TopSecret" not in repr(parse_request([*SHORTEST, "--password", "TopSecret"], environment))


def test_a_secret_of_another_form_is_refused_unseen() -> None:
    message = refusal(SHORTEST, {"WSREP_SST_OPT_REMOTE_AUTH": "TopSecret"})
    assert "not USER:SECRET" in message
    assert "TopSecret" not in message


@pytest.mark.parametrize("user", ["-e/tmp/x", "--help", "shop/x", "a@b", "a b", "ünï", "", ".", "a\nb"])
def test_a_user_that_rsync_would_take_for_something_else_is_refused(user: str) -> None:
    assert "not USER:SECRET" in refusal(SHORTEST, {"WSREP_SST_OPT_REMOTE_AUTH": f"{user}:pw"})


@pytest.mark.parametrize("user", ["pytunnel", "user_1", "Node-2.sst", "_"])
def test_a_user_of_plain_characters_is_taken(user: str) -> None:
    assert parse_request(SHORTEST, {"WSREP_SST_OPT_REMOTE_AUTH": f"{user}:pw"}).secret == Secret(user, "pw")


def test_a_datadir_is_taken_from_the_server_s_command_line_where_none_is_passed() -> None:
    request = parse_request([*SHORTEST[:-2], "--mysqld-args", "--datadir=/a", "-h/b"], {})
    assert request.datadir == Path("/b")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the role is None; expected --role joiner or --role donor"),
        (["--role", "witness"], "the role is 'witness'"),
        (SHORTEST[:-2], "no --datadir was passed"),
        ([*SHORTEST, "--parent", "x"], "--parent is 'x'; expected a number"),
        ([*SHORTEST, "--gtid", "1:2:3"], "--gtid is '1:2:3'; expected UUID:SEQNO"),
        ([*SHORTEST, "--gtid-domain-id", "-1"], "--gtid-domain-id is '-1'; expected a number"),
        ([*SHORTEST, "--gtid"], "--gtid was passed without its value"),
        ([*SHORTEST, "--gtid", "--mysqld-args"], "--gtid was passed without its value"),
        ([*SHORTEST, "stray"], "the word 'stray' belongs to no option"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(arguments: list[str], expected: str) -> None:
    assert f"the server's call can't be used: {expected}" in refusal(arguments)


@pytest.mark.parametrize("address", ["", "My Company, Inc.", "node2:x"])
def test_an_address_that_the_server_could_not_pass_on_is_refused(address: str) -> None:
    refusal(["--role", "joiner", "--address", address, "--datadir", "/db"])


def test_mysqld_args_end_our_own_options() -> None:
    request = parse_request([*SHORTEST, "--mysqld-args", "--role", "donor", "--bypass", "stray"], {})
    assert (request.role, request.bypass) == (Role.JOINER, False)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], []),
        (["--datadir=/x"], [ServerOption("datadir", "/x")]),
        (["--datadir", "/x", "--user=u"], [ServerOption("datadir", "/x"), ServerOption("user", "u")]),
        (["--log_bin"], [ServerOption("log-bin")]),
        (["--log-bin="], [ServerOption("log-bin", "")]),
        (["--log-bin", "--user=u"], [ServerOption("log-bin"), ServerOption("user", "u")]),
        (["--loose-innodb_undo_directory=a=b"], [ServerOption("innodb-undo-directory", "a=b")]),
        (["--loose_x"], [ServerOption("x")]),
        (["-h/x"], [ServerOption("datadir", "/x")]),
        (["-h", "/x", "--y"], [ServerOption("datadir", "/x"), ServerOption("y")]),
        (["-h", "--y"], [ServerOption("datadir"), ServerOption("y")]),
        (["-h"], [ServerOption("datadir")]),
        (["-t/x", "-t", "/y"], [ServerOption("tmpdir", "/x"), ServerOption("tmpdir", "/y")]),
        (["-umysql", "-P", "3306", "--y"], [ServerOption("y")]),
        (["--x", "--", "--y"], [ServerOption("x")]),
    ],
)
def test_a_server_s_command_line_is_read_as_the_server_reads_it(words: list[str], options: list[ServerOption]) -> None:
    assert list(parse_mysqld_args(words)) == options


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("innodb_log_group_home", "innodb-log-group-home-dir"),
        ("loose-innodb-undo-d", "innodb-undo-directory"),
        ("innodb-undo", "innodb-undo"),  # ambiguous: a server that has two options of this beginning does not start
        ("log-bin", "log-bin"),
        ("log-bin-i", "log-bin-index"),
        ("log-bin-indexes", "log-bin-indexes"),
        ("ssl-ca", "ssl-ca"),
        ("tmpd", "tmpdir"),
    ],
)
def test_an_abbreviation_that_means_one_option_stands_for_it(written: str, name: str) -> None:
    assert list(parse_mysqld_args([f"--{written}=x"])) == [ServerOption(name, "x")]


names = st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True).filter(lambda name: not name.startswith("loose-"))


@given(st.lists(st.builds(ServerOption, names, st.none() | st.text())), st.booleans(), st.booleans())
def test_a_server_s_options_come_back_as_they_were_written(
    options: list[ServerOption], underscores: bool, loose: bool
) -> None:
    words = []
    for option in options:
        name = ("loose-" if loose else "") + option.name
        written = name.replace("-", "_") if underscores else name
        words.append(f"--{written}" if option.value is None else f"--{written}={option.value}")
    assert list(parse_mysqld_args(words)) == options


words = st.sampled_from([*SHORTEST, *DONOR, "--bypass", "--mysqld-args", "-h", "--"]) | st.text()


@given(st.lists(words, max_size=30), st.dictionaries(st.sampled_from(list(DONOR_ENVIRONMENT)), st.text()))
def test_any_call_is_understood_or_refused_in_one_line(arguments: list[str], environment: dict[str, str]) -> None:
    try:
        parse_request(arguments, environment)
    except SstError as error:
        message = str(error)
        assert message.isprintable()
