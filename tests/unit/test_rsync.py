"""How rsync is called, and what its words and exit codes mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sst import rsync
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.manifest import UNDO

SECRET = rsync.Secret("pytunnel", "0123abcd")


def test_the_daemon_demands_the_secret_in_every_module() -> None:
    text = rsync.daemon_config([rsync.Module("data", Path("/d"), ("/*/",))], Path("/p/secrets"))
    head, _, modules = text.partition("[data]")
    assert "auth users = pytunnel\nsecrets file = /p/secrets\nstrict modes = yes\n" in head
    assert "path = /d" in modules


def test_a_daemon_for_an_old_donor_demands_no_secret() -> None:
    assert "auth users" not in rsync.daemon_config([rsync.Module("data", Path("/d"), ("/*/",))], None)


def test_symbolic_links_are_kept_as_they_are() -> None:
    assert "munge symlinks = no" in rsync.daemon_config([], None)


def test_a_donor_may_touch_schemas_and_our_own_files_alone() -> None:
    module = rsync.data_module("data", Path("/d"), [Path("/d/re do")], ["complete"])
    rules = rsync.daemon_config([module], None).partition("filter = ")[2].strip()
    assert rules.startswith("- /lost+found/ ")
    assert rules.endswith("- /re?do - /re?do/ + /*/ + /complete - /*")


def test_a_donor_may_touch_no_directory_where_a_sets_files_are() -> None:
    text = rsync.daemon_config([rsync.set_module("data-undo_dir", Path("/d"), UNDO)], None)
    assert "filter = - /*/ + /undo* - /*\n" in text


@pytest.mark.parametrize("path", ["/a%b", "/a\nb", "/a\\", "/a "])
def test_a_directory_that_rsyncd_conf_cannot_express_is_refused(path: str) -> None:
    with pytest.raises(SstError, match="can't be served by rsync") as caught:
        rsync.daemon_config([rsync.Module("data", Path(path), ("/*/",))], None)
    assert caught.value.exit_code == ExitCode.BAD_SETTING


def test_the_secret_is_in_the_environment_and_in_no_argument() -> None:
    command = rsync.client_command(
        7, *rsync.delete_arguments(Path("/d"), (), rsync.destination("m", SECRET), guarded=True)
    )
    assert not any(SECRET.password in word for word in command)
    assert rsync.client_environment({}, SECRET)["RSYNC_PASSWORD"] == SECRET.password
    assert SECRET.password not in repr(SECRET)


@pytest.mark.parametrize(
    "arguments",
    [
        rsync.delete_arguments(Path("/d"), (), "TO", guarded=True),
        rsync.delete_schema_arguments("mysql", Path("/n"), "TO"),
        rsync.delete_set_arguments(UNDO, Path("/n"), "TO"),
        rsync.schema_arguments(Path("/d"), "TO", rsync.Saving()),
        rsync.set_arguments(Path("/d"), UNDO, "TO", rsync.Saving()),
        rsync.access_arguments(Path("/f"), "TO"),
        rsync.note_arguments(Path("/f"), "TO"),
        rsync.file_arguments(Path("/f"), "TO", rsync.Saving()),
    ],
    ids=" ".join,
)
def test_no_path_can_be_an_option(arguments: list[str]) -> None:
    assert arguments[-3] == "--"
    assert arguments[-1] == "TO"


def test_rsync_variables_of_the_server_change_nothing() -> None:
    environment = {"RSYNC_RSH": "evil", "RSYNC_PROXY": "evil:1", "PATH": "/bin"}
    assert rsync.client_environment(environment, None) == {"PATH": "/bin", "RSYNC_PASSWORD": ""}


def test_a_sets_directories_are_never_deleted() -> None:
    arguments = rsync.set_arguments(Path("/d"), UNDO, "joiner::m/", rsync.Saving())
    assert arguments.index("--exclude=/*/") < arguments.index("--include=/undo*") < arguments.index("--exclude=*")


def test_files_are_sent_whole_and_uncompressed_unless_asked() -> None:
    arguments = rsync.schema_arguments(Path("/d"), "joiner::m/", rsync.Saving())
    assert "--whole-file" in arguments
    assert not any("compress" in word for word in arguments)


def test_a_delta_and_a_compression_are_asked_of_every_run_that_sends_data() -> None:
    saving = rsync.Saving(compress="zstd", delta=True)
    target = "joiner::m/"
    for arguments in (
        rsync.schema_arguments(Path("/d"), target, saving),
        rsync.set_arguments(Path("/d"), UNDO, target, saving),
        rsync.file_arguments(Path("/d/f"), target, saving),
    ):
        assert {"--no-whole-file", "--compress", "--compress-choice=zstd"} <= set(arguments)
        assert "--whole-file" not in arguments


def test_the_compressions_of_an_rsync_are_read_from_its_version() -> None:
    assert rsync.parse_compressions("Compress list:\n    zstd lz4 zlibx none\nDaemon auth list:\n    md5\n") == {
        "zstd",
        "lz4",
        "zlibx",
        "none",
    }
    assert rsync.parse_compressions("rsync  version 3.1.3  protocol version 31\n") == frozenset()


def test_only_directories_below_the_datadir_are_protected() -> None:
    patterns = rsync.protected(Path("/d"), [Path("/d/redo[1]"), Path("/elsewhere")])
    assert "/redo\\[1]/" in patterns
    assert not any("elsewhere" in pattern for pattern in patterns)
    assert "/lost+found/" in patterns


def test_what_is_left_out_here_is_deleted_of_a_joiner_that_guards_its_own_and_of_no_other() -> None:
    guarded, unguarded = (
        rsync.delete_arguments(Path("/d"), [Path("/d/re do")], "joiner::m/", guarded=guarded)
        for guarded in (True, False)
    )
    assert "--filter=H /re do/" in guarded
    assert "--exclude=/re do/" not in guarded
    assert "--exclude=/re do/" in unguarded
    assert "--exclude=/lost+found/" in guarded


def test_our_own_directories_are_protected_whatever_they_are_called() -> None:
    assert "/pytunnel-*/" in rsync.protected(Path("/d"), [])


def test_the_module_list_is_read_from_the_daemons_answer() -> None:
    listing = "rsync_tunnel_sst\t\nrsync_tunnel_sst-log_dir\ta comment\nmessage of the day\n"
    assert rsync.parse_module_list(listing) == {"rsync_tunnel_sst", "rsync_tunnel_sst-log_dir"}


@given(st.text())
def test_any_answer_to_the_module_list_is_survived(listing: str) -> None:
    rsync.parse_module_list(listing)


def test_only_a_failed_authentication_is_told_as_one() -> None:
    assert "know the secret" in str(rsync.failure(5, "@ERROR: auth failed on module rsync_tunnel_sst"))
    for words in ("@ERROR: chdir failed", "rsync: did not see server greeting", ""):
        message = str(rsync.failure(5, words))
        assert "secret" not in message
        assert "the joiner's rsync refused, or did not start" in message
        assert words in message


def test_a_failure_says_what_the_code_means_and_what_rsync_said() -> None:
    error = rsync.failure(11, "rsync: write failed: No space left on device (28)")
    assert "is the disk full" in str(error)
    assert "No space left" in str(error)


@pytest.mark.parametrize(("code", "expected"), [(2, 71), (12, 32), (30, 32), (23, 255), (99, 255)])
def test_each_failure_has_the_exit_code_that_the_server_understands(code: int, expected: int) -> None:
    assert rsync.failure(code, "").exit_code == expected
