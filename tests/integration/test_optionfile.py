"""The real my_print_defaults on real option files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from pytunnel.sst.address import Address
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.optionfile import OptionGroup, read_group, read_server
from pytunnel.sst.request import Request, Role

needs_program = pytest.mark.skipif(
    shutil.which("my_print_defaults") is None and os.environ.get("CI") != "true",
    reason="my_print_defaults is not on PATH; `apt-get install mariadb-server` (or dnf) enables these tests",
)

OPTIONS = """
[sst]
sockopt = ",cipher=!SSLv2:kEECDH:+3DES,pf=ip6"
tca = '/etc/my ssl/ca.pem' # both nodes
tcert=/first.pem
tcert=/last.pem
legacy-donor
empty=
loose-backup_threads=8

[sst.2]
tcert=/second/node.pem

[mysqld]
log_bin

[mysqld.2]
log-bin=two

[galera]
innodb_undo_directory=undo

[client]
user=nobody
"""


def make_request(file: Path, suffix: str | None = None) -> Request:
    return Request(Role.JOINER, Address("node2"), Path("/db"), defaults_file=file, defaults_group_suffix=suffix)


def read(reader: Callable[[], Awaitable[OptionGroup]]) -> OptionGroup:
    async def limited() -> OptionGroup:
        with trio.fail_after(60):
            return await reader()

    return trio.run(limited)


@pytest.fixture
def option_file(tmp_path: Path) -> Path:
    path = tmp_path / "my node.cnf"
    path.write_text(OPTIONS)
    path.chmod(0o644)
    return path


@needs_program
def test_the_sst_group_is_read(option_file: Path) -> None:
    group = read(lambda: read_group(make_request(option_file), "sst"))
    assert group.get("sockopt") == ",cipher=!SSLv2:kEECDH:+3DES,pf=ip6"
    assert group.get("tca") == "/etc/my ssl/ca.pem"
    assert group.get("tcert") == "/last.pem"
    assert group.get("backup-threads") == "8"
    assert ("legacy-donor" in group, group.get("legacy-donor")) == (True, None)
    assert ("empty" in group, group.get("empty")) == (True, "")
    assert "tkey" not in group
    assert group.warnings == ()


@needs_program
def test_a_suffix_s_group_goes_before_the_plain_one(option_file: Path) -> None:
    group = read(lambda: read_group(make_request(option_file, ".2"), "sst"))
    assert group.get("tcert") == "/second/node.pem"
    assert group.get("tca") == "/etc/my ssl/ca.pem"


@needs_program
def test_the_server_s_groups_are_read_and_no_others(option_file: Path) -> None:
    server = read(lambda: read_server(make_request(option_file)))
    assert ("log-bin" in server, server.get("log-bin")) == (True, None)
    assert server.get("innodb-undo-directory") == "undo"
    assert "user" not in server


@needs_program
def test_the_server_s_groups_with_a_suffix(option_file: Path) -> None:
    assert read(lambda: read_server(make_request(option_file, ".2"))).get("log-bin") == "two"


@needs_program
def test_the_server_s_options_may_be_abbreviated_and_ours_may_not(option_file: Path) -> None:
    option_file.write_text("[mariadb]\ninnodb_log_group_home=redo\n[sst]\nssl-ce=/node.pem\n")
    assert read(lambda: read_server(make_request(option_file))).get("innodb-log-group-home-dir") == "redo"
    assert "ssl-cert" not in read(lambda: read_group(make_request(option_file), "sst"))


@needs_program
def test_a_group_that_no_file_has_is_empty(option_file: Path) -> None:
    assert read(lambda: read_group(make_request(option_file), "nothing")) == OptionGroup()


@needs_program
def test_a_file_that_everybody_may_write_is_left_out_with_a_warning(option_file: Path) -> None:
    option_file.chmod(0o666)
    group = read(lambda: read_group(make_request(option_file), "sst"))
    assert group.options == ()
    assert "World-writable" in group.warnings[0]


@needs_program
def test_a_missing_option_file_is_a_clear_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing.cnf"
    said = f"my_print_defaults ended with status .*{missing}; give the path of an existing file that can be read$"
    with pytest.raises(SstError, match=said) as caught:
        read(lambda: read_group(make_request(missing), "sst"))
    assert caught.value.exit_code == ExitCode.MISSING


@needs_program
def test_a_broken_option_file_is_a_clear_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cnf"
    broken.write_text("[sst\n")
    with pytest.raises(SstError, match=f"Wrong group definition in config file: {broken}"):
        read(lambda: read_group(make_request(broken), "sst"))


@needs_program
@pytest.mark.parametrize("said", ["my_print_defaults: [ERROR] unknown option '--mysqld'.", "unknown option '--mysqld'"])
def test_a_program_that_does_not_know_the_server_s_groups_is_told_them(
    option_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    real = shutil.which("my_print_defaults")
    program = tmp_path / "bin" / "my_print_defaults"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase "$*" in *--mysqld) echo "{said}" >&2; exit 2 ;; esac\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert read(lambda: read_server(make_request(option_file, ".2"))).get("log-bin") == "two"


def test_a_missing_program_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SstError, match=r"my_print_defaults can't be run .* is it on the server's PATH") as caught:
        read(lambda: read_group(make_request(tmp_path / "my.cnf"), "sst"))
    assert caught.value.exit_code == ExitCode.MISSING


def test_a_program_that_never_ends_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "my_print_defaults"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("pytunnel.sst.optionfile._TIME_LIMIT", 0.1)
    with pytest.raises(SstError, match=r"did not end within 0\.1 seconds"):
        read(lambda: read_group(make_request(tmp_path / "my.cnf"), "sst"))
