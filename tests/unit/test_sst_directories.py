"""Where the server's files are, from every source that may say so, and how it names its binlogs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sst.address import Address
from pytunnel.sst.directories import BinlogPlace, Layout, find_layout
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.manifest import ARIA, REDO, SYSTEM, UNDO
from pytunnel.sst.optionfile import OptionGroup, parse_output
from pytunnel.sst.request import Request, Role, ServerPaths, parse_mysqld_args

DATADIR = Path("/var/lib/mysql")
NO_OPTIONS = OptionGroup()
NO_PATHS = ServerPaths()
REQUEST = Request(Role.JOINER, Address("node2"), DATADIR)
SYSTEM_TMPDIR = ["/tmp"]  # noqa: S108 - only its name is looked at


def group(*lines: str) -> OptionGroup:
    return OptionGroup(tuple(parse_output("\n".join(lines).encode())))


def layout(
    server: OptionGroup = NO_OPTIONS,
    *,
    paths: ServerPaths = NO_PATHS,
    environment: ServerPaths = NO_PATHS,
    mysqld_args: tuple[str, ...] = (),
    sst: OptionGroup = NO_OPTIONS,
) -> Layout:
    request = replace(
        REQUEST, paths=paths, environment_paths=environment, mysqld_args=tuple(parse_mysqld_args(mysqld_args))
    )
    return find_layout(request, server, sst)


def binlog(*lines: str, paths: ServerPaths = NO_PATHS, mysqld_args: tuple[str, ...] = ()) -> BinlogPlace:
    place = layout(group(*lines), paths=paths, mysqld_args=mysqld_args).binlog
    assert place is not None
    return place


def test_everything_is_in_the_datadir_unless_said_otherwise() -> None:
    assert layout() == Layout(DATADIR, DATADIR, DATADIR, DATADIR, DATADIR, binlog=None)


def test_a_datadir_with_a_slash_at_its_end_is_the_same_datadir() -> None:
    request = replace(REQUEST, datadir=Path("/var/lib/x/../mysql/"))
    assert find_layout(request, NO_OPTIONS, NO_OPTIONS) == layout()


def test_option_files_place_every_set() -> None:
    server = group(
        "--innodb_data_home_dir=/d",
        "--innodb-log-group-home-dir=/r",
        "--innodb-undo-directory=/u",
        "--aria-log-dir-path=/a",
    )
    found = layout(server)
    assert [found.directory_of(files) for files in (SYSTEM, REDO, UNDO, ARIA)] == [
        Path("/d"),
        Path("/r"),
        Path("/u"),
        Path("/a"),
    ]


@pytest.mark.parametrize(
    ("spelled", "path"),
    [
        ("./", DATADIR),
        (".", DATADIR),
        ("undo", DATADIR / "undo"),
        ("./undo/", DATADIR / "undo"),
        ("../u", Path("/var/lib/u")),
    ],
)
def test_a_relative_directory_is_relative_to_the_datadir(spelled: str, path: Path) -> None:
    assert layout(group(f"--innodb-undo-directory={spelled}")).undo == path


def test_an_empty_directory_is_the_datadir() -> None:
    assert layout(group("--innodb-data-home-dir=")).data == DATADIR


def test_our_own_option_goes_before_the_environment_that_before_the_command_line_that_before_the_files() -> None:
    server = group("--innodb-undo-directory=/file")
    args = ("--loose-innodb_undo_directory=/args",)
    environment = ServerPaths(undo="/environment")
    assert layout(server).undo == Path("/file")
    assert layout(server, mysqld_args=args).undo == Path("/args")
    assert layout(server, mysqld_args=args, environment=environment).undo == Path("/environment")
    own = layout(server, mysqld_args=args, environment=environment, paths=ServerPaths(undo="/own"))
    assert own.undo == Path("/own")


def test_directories_below_the_datadir_are_no_schemas() -> None:
    server = group(
        "--innodb-undo-directory=undo", "--aria-log-dir-path=/a", "--log-bin=logs/x", "--innodb-log-group-home-dir=logs"
    )
    assert layout(server).nested_places() == (DATADIR / "logs", DATADIR / "undo")


@pytest.mark.parametrize("tmpdir", ["tmp", "/var/lib/mysql/tmp/"])
def test_a_directory_for_temporary_files_is_no_schema(tmpdir: str) -> None:
    assert layout(group(f"--tmpdir=/elsewhere:{tmpdir}")).nested_places() == (DATADIR / "tmp",)


def test_the_command_line_s_tmpdir_goes_before_the_option_file_s_and_that_before_the_environment_s() -> None:
    environment = ServerPaths(tmpdir="/environment")
    assert layout(environment=environment).tmpdir == (Path("/environment"),)
    assert layout(group("--tmpdir=/file"), environment=environment).tmpdir == (Path("/file"),)
    own = layout(group("--tmpdir=/file"), environment=environment, mysqld_args=("--tmpdir", "/args"))
    assert own.tmpdir == (Path("/args"),)


@pytest.mark.parametrize(
    ("line", "directory"),
    [
        ("--wsrep-data-home-dir=/var/lib/mysql/galera/", "galera"),
        ("--wsrep_data_home_dir=galera", "galera"),
        ("--wsrep-provider-options=gcache.size=1G; gcache.dir = cache;pc.weight=1", "cache"),
        ("--wsrep-provider-options=gcache.name=cache/ring", "cache"),
        ("--wsrep-provider-options=gcache.name=/var/lib/mysql/cache/ring", "cache"),
        ("--wsrep-provider-options=gcache.dir=/var/lib/mysql/a;gcache.name=b/ring", "a"),
        ("--wsrep-provider-options=gcache.rocksdb_dir=rocks;base_dir=rocks", "rocks"),
        ("--wsrep-provider-gcache-dir=cache", "cache"),
    ],
)
def test_a_directory_of_galera_s_provider_is_no_schema(line: str, directory: str) -> None:
    assert DATADIR / directory in layout(group(line)).nested_places()


def test_the_directory_of_galera_s_provider_may_be_named_on_the_command_line() -> None:
    found = layout(group("--wsrep-data-home-dir=old"), mysqld_args=("--wsrep-data-home-dir=new",))
    assert found.nested_places() == (DATADIR / "new",)


@pytest.mark.parametrize(
    "line",
    [
        "--wsrep-provider-options=gcache.size=1G;socket.ssl_key=keys/node.pem",
        "--wsrep-provider-options=socket.ssl_cert=/var/lib/mysql/keys/node.crt; socket.ssl_ca=/etc/ca.pem",
        "--wsrep-provider-options=socket.ssl_password_file=keys/password",
        "--wsrep-provider-socket-ssl-key=keys/node.pem",
    ],
)
def test_the_directory_of_the_provider_s_key_is_no_schema(line: str) -> None:
    assert layout(group(line)).nested_places() == (DATADIR / "keys",)


def test_galera_s_files_in_the_datadir_itself_add_no_directory() -> None:
    server = group("--wsrep-data-home-dir=/var/lib/mysql/", "--wsrep-provider-options=gcache.name=ring;gcache.dir=.")
    assert layout(server).nested_places() == ()


@pytest.mark.parametrize("name", ["galera.cache", "gcache.page.000001", "grastate.dat", "gvwstate.dat"])
def test_a_directory_with_files_of_galera_s_is_no_schema_whatever_the_options_say(tmp_path: Path, name: str) -> None:
    for directory in ("galera", "shop/part"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / name).touch()
    found = find_layout(replace(REQUEST, datadir=tmp_path), NO_OPTIONS, NO_OPTIONS)
    assert found.nested_places() == (tmp_path / "galera",)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ("ibdata1",)),
        ("ibdata1:12M:autoextend", ("ibdata1",)),
        ("ibdata1:10M; main2:10M:autoextend:max:1G;", ("ibdata1", "main2")),
        ("/dev/sdb1:3Gnewraw", ("/dev/sdb1",)),
    ],
)
def test_the_parts_of_the_system_tablespace_have_names(path: str, names: tuple[str, ...]) -> None:
    assert layout(group(f"--innodb-data-file-path={path}")).system_files == names
    assert layout(mysqld_args=(f"--innodb-data-file-path={path}",)).system_files == names


@pytest.mark.parametrize(
    ("spelled", "directories"),
    [
        ("", SYSTEM_TMPDIR),
        ("/a:/b", ["/a", "/b"]),
        (":/a::/b:", ["/a", "/b"]),
        (":", SYSTEM_TMPDIR),
        ("tmp", ["/var/lib/mysql/tmp"]),
    ],
)
def test_the_tmpdir_may_be_a_list(spelled: str, directories: list[str]) -> None:
    assert layout(group(f"--tmpdir={spelled}")).tmpdir == tuple(map(Path, directories))


def test_a_directory_of_certificates_is_no_schema_and_a_certificate_of_the_top_level_is_the_node_s_own() -> None:
    files = [DATADIR / "ssl" / "node.pem", Path("server-key.pem"), Path("/etc/ssl/ca.pem"), Path("/var/lib/node.pem")]
    found = find_layout(REQUEST, NO_OPTIONS, NO_OPTIONS, files)
    assert found.nested_places() == (DATADIR / "server-key.pem", DATADIR / "ssl")


def test_a_certificate_that_a_link_leads_to_is_the_node_s_own(tmp_path: Path) -> None:
    datadir = tmp_path / "data"
    (datadir / "ssl").mkdir(parents=True)
    (datadir / "ssl" / "node.pem").touch()
    (tmp_path / "node.pem").symlink_to(datadir / "ssl" / "node.pem")
    request = replace(REQUEST, datadir=datadir)
    found = find_layout(request, NO_OPTIONS, NO_OPTIONS, [tmp_path / "node.pem"])
    assert found.nested_places() == (datadir / "ssl",)


def test_a_directory_of_cas_is_no_schema(tmp_path: Path) -> None:
    (tmp_path / "cas").mkdir()
    found = find_layout(replace(REQUEST, datadir=tmp_path), NO_OPTIONS, NO_OPTIONS, [tmp_path / "cas"])
    assert found.nested_places() == (tmp_path / "cas",)


@pytest.mark.parametrize(("datadir", "redo"), [("link", "real"), ("real", "link"), ("link", "link"), ("real", "real")])
def test_a_directory_is_below_the_datadir_however_both_are_spelled(tmp_path: Path, datadir: str, redo: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    request = replace(REQUEST, datadir=tmp_path / datadir)
    found = find_layout(request, group(f"--innodb-log-group-home-dir={tmp_path / redo / 'logs'}"), NO_OPTIONS)
    assert found.nested_places() == (tmp_path / datadir / "logs",)


def test_a_link_below_the_datadir_and_the_directory_that_it_leads_to_are_no_schemas(tmp_path: Path) -> None:
    (tmp_path / "redo").symlink_to("disk")
    request = replace(REQUEST, datadir=tmp_path)
    found = find_layout(request, group("--innodb-log-group-home-dir=redo"), NO_OPTIONS)
    assert found.nested_places() == (tmp_path / "disk", tmp_path / "redo")


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "redo").symlink_to("redo")
    request = replace(REQUEST, datadir=tmp_path)
    found = find_layout(request, group("--innodb-log-group-home-dir=redo"), NO_OPTIONS, [tmp_path / "redo" / "a.pem"])
    assert found.nested_places() == (tmp_path / "redo",)


def test_without_log_bin_there_are_no_binlogs() -> None:
    assert layout(group("--log-basename=node", "--log-bin-index=x")).binlog is None


@pytest.mark.parametrize(
    ("lines", "base", "index", "directory"),
    [
        # As MariaDB 10.11 names its files, and writes them into its index.
        (["--log-bin=foo"], "foo", "foo.index", "./"),
        (["--log-bin=foo.bar.baz"], "foo", "foo.index", "./"),
        (["--log-bin=./z.ext"], "z", "z.index", "./"),
        (["--log-bin=sub/x"], "sub/x", "sub/x.index", "sub/"),
        (["--log-bin=/other/y"], "/other/y", "/other/y.index", "/other/"),
        (["--log-bin=/var/lib/mysql/w"], "w", "w.index", "/var/lib/mysql/"),
        (["--log-bin=/o.d/y"], "/o.d/y", "/o.d/y.index", "/o.d/"),
        (["--log-bin", "--log-basename=lb"], "lb-bin", "lb-bin.index", "./"),
        (["--log-bin", "--log-basename=/o/lb"], "/o/lb-bin", "/o/lb-bin.index", "/o/"),
        (["--log-bin=q", "--log-bin-index=other-idx"], "q", "other-idx.index", "./"),
        (["--log-bin=q", "--log-bin-index=/other/i.txt"], "q", "/other/i.txt", "./"),
        (["--log-bin=q", "--log-bin-index=a.b.c"], "q", "a.b.c", "./"),
        (["--log-bin=r", "--log-bin-index=sub/k"], "r", "sub/k.index", "./"),
        (["--log-bin=r", "--log-bin-index=s.d/k"], "r", "s.d/k.index", "./"),
        (["--log-bin"], "mysql-bin", "mysql-bin.index", "./"),
        (["--log-bin="], "mysql-bin", "mysql-bin.index", "./"),
    ],
)
def test_binlogs_are_named_as_the_server_names_them(lines: list[str], base: str, index: str, directory: str) -> None:
    assert binlog(*lines) == BinlogPlace(DATADIR, DATADIR / base, DATADIR / index, directory, most=1)


def test_the_binlog_that_the_server_passes_goes_before_all_options() -> None:
    place = binlog(
        "--log-bin=file",
        paths=ServerPaths(log_bin="vm.a-bin", log_bin_index="idx.txt"),
        mysqld_args=("--log-bin=args",),
    )
    assert (place.base, place.index) == (DATADIR / "vm.a-bin", DATADIR / "idx.txt")


def test_the_command_line_s_binlog_goes_before_the_option_file_s() -> None:
    assert binlog("--log-bin=file", mysqld_args=("--log_bin=args",)).base == DATADIR / "args"


@pytest.mark.parametrize("switch", ["--skip-log-bin", "--disable-log-bin", "--skip_log_bin"])
def test_binlogs_can_be_switched_off_on_the_command_line(switch: str) -> None:
    assert layout(group("--log-bin=file"), mysqld_args=("--log-bin=args", switch)).binlog is None


def test_binlogs_can_be_switched_on_again() -> None:
    assert binlog("--skip-log-bin", "--log-bin=file").base == DATADIR / "file"


@pytest.mark.parametrize(("sst", "server", "most"), [([], [], 1), (["5"], [], 5), (["-1"], ["3"], -1), ([], ["3"], 3)])
def test_the_number_of_binlogs_is_an_option(sst: list[str], server: list[str], most: int) -> None:
    found = layout(
        group("--log-bin", *(f"--sst-max-binlogs={text}" for text in server)),
        sst=group(*(f"--sst_max_binlogs={text}" for text in sst)),
    )
    assert found.binlog is not None
    assert found.binlog.most == most


@pytest.mark.parametrize("text", ["all", "1.5", "9" * 5000])
def test_a_number_of_binlogs_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SstError, match=r"sst-max-binlogs in .* expected a number of binlogs, or -1 for all") as caught:
        layout(sst=group(f"--sst-max-binlogs={text}"))
    assert caught.value.exit_code == ExitCode.BAD_SETTING


spelled_paths = st.from_regex(r"(\.?\.?/)?[a-z.]{1,5}(/[a-z]{1,5}){0,2}/?", fullmatch=True)


@given(spelled_paths)
def test_every_directory_is_a_complete_path(spelled: str) -> None:
    found = layout(group(f"--innodb-undo-directory={spelled}", f"--aria-log-dir-path={spelled}"))
    assert found.undo == found.aria
    assert found.undo.is_absolute()
    assert ".." not in found.undo.parts


@given(st.from_regex(r"(\.?/|[a-z]{1,5}/)?[a-z]{1,8}", fullmatch=True))
def test_a_name_in_the_index_leads_to_its_binlog(spelled: str) -> None:
    place = binlog(f"--log-bin={spelled}")
    assert DATADIR / f"{place.written_directory}{place.base.name}" == place.base


@pytest.mark.parametrize("spelled", ["/var/log/mysql/", "logs/", "/", "/var/log/..", "."])
def test_a_directory_is_no_name_of_binlogs(spelled: str) -> None:
    with pytest.raises(SstError, match=f"log-bin is '{re.escape(spelled)}', a directory; expected the path") as caught:
        binlog(paths=ServerPaths(log_bin=spelled))
    assert caught.value.exit_code == ExitCode.BAD_SETTING


def test_a_directory_in_the_option_file_is_no_name_of_binlogs_either() -> None:
    with pytest.raises(SstError, match=r"a directory; expected .* such as /var/log/mysql/mysql-bin$"):
        binlog("--log-bin=/var/log/mysql/")
