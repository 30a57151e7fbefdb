"""Paths, names and options that a shell, rsync or an option file would take for something else: they stay data."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.ends import Ends
from tests.support.plain import talk
from tests.support.programs import needs
from tests.support.sst import POSITION, PlayedServer
from tests.support.tunnels import credentials, pytunnel, started

WEIRD = "it's a $(touch pwned) `touch pwned` & ;touch pwned; ünï @ -- -rf"
NAMES = (
    "$(touch pwned)",
    "`touch pwned`",
    ";touch pwned",
    "--rsh=touch pwned",
    "-e sh",
    "--files-from=-",
    "#comment",
    ";comment",
    "@0023odd",
    "a@b::c",
    "host:path",
    "new\nline",
    "tab\there",
    "back\\slash",
    "quote'\"",
    "ünï",
    "*?[a]",
    "..data",
)


def pwned(place: Path) -> list[Path]:
    """Files that a command hidden in an argument would have made."""
    return [path for path in (*place.rglob("pwned"), Path("pwned"), Path.home() / "pwned") if path.exists()]


@needs("rsync", "my_print_defaults")
def test_a_datadir_with_a_name_full_of_metacharacters_and_schemas_with_such_names(tmp_path: Path) -> None:
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor, joiner = (
        PlayedServer(tmp_path / f"{WEIRD}{number}").use(own, identities) for number, own in enumerate(identities)
    )
    for name in NAMES:
        folder = donor.datadir / name
        folder.mkdir()
        (folder / f"{name}.ibd").write_text(name)
    undo = donor.root / "--undo dir"
    undo.mkdir()
    (undo / "undo001").write_text("undo")
    donor.server_options["innodb-undo-directory"] = joiner.server_options["innodb-undo-directory"] = str(undo)
    joiner.server_options["innodb-undo-directory"] = str(joiner.root / "--undo dir")
    joining = joiner.start_joiner()
    donating = donor.start_donor(joining.ready())
    donating.expect("flush tables")
    donor.flush()
    donating.expect("continue")
    donating.expect(f"done {POSITION}")
    assert (donating.end(), joining.end()) == (0, 0), donating.log + joining.log
    for name in NAMES:
        assert (joiner.datadir / name / f"{name}.ibd").read_text() == name
    assert (joiner.root / "--undo dir" / "undo001").read_text() == "undo"
    assert pwned(tmp_path) == []


@needs("rsync", "my_print_defaults")
@pytest.mark.parametrize("name", ["line\nbreak", "100%"])
def test_a_datadir_that_rsync_can_not_be_told_of_is_refused_before_anything_listens(tmp_path: Path, name: str) -> None:
    own = self_signed("localhost")
    certificates = PlayedServer(tmp_path / "sound").use(own, [own])
    elsewhere = {"tmpdir": str(tmp_path)}  # no option file can name this directory's
    joiner = PlayedServer(tmp_path / name, options=dict(certificates.options), server_options=elsewhere)
    run = joiner.start_joiner()
    assert run.line() == ""
    assert run.end() == 22, run.log
    (error,) = run.errors()
    assert "can't be served by rsync" in error
    assert joiner.remains() == []


@needs("rsync", "my_print_defaults")
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:1/--rsh=touch pwned",
        "127.0.0.1:1/../../etc",
        "127.0.0.1:1/module;touch pwned",
        "--rsh=touch pwned:1/rsync_tunnel_sst",
        "$(touch pwned):1/rsync_tunnel_sst",
        "127.0.0.1:1\n/rsync_tunnel_sst",
    ],
)
def test_an_address_that_is_none_ends_in_one_line(tmp_path: Path, address: str) -> None:
    own = self_signed("localhost")
    donor = PlayedServer(tmp_path / "donor").use(own, [own])
    gtid = ("--gtid", POSITION.split()[0], "--gtid-domain-id", "0")
    run = donor.start("donor", address, *gtid, environment={"WSREP_SST_OPT_REMOTE_AUTH": "pytunnel:x"})
    assert run.line() == ""
    assert run.end() != 0
    assert len(run.errors()) == 1, run.log
    assert "Traceback" not in run.log
    assert pwned(tmp_path) == []


@needs("rsync", "my_print_defaults")
@pytest.mark.parametrize("user", ["shop/x", "-e{root}/evil", "--help"])
def test_a_user_name_of_the_joiner_s_is_no_path_and_no_option_of_the_donor_s_rsync(tmp_path: Path, user: str) -> None:
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor, joiner = (
        PlayedServer(tmp_path / name).use(own, identities)
        for name, own in zip(("donor", "joiner"), identities, strict=True)
    )
    joiner.options["legacy-donor"] = "1"
    user = user.format(root=donor.root)
    modules = ["", "-plan", "-data_dir", "-log_dir", "-undo_dir", "-aria_log"]
    places = [donor.datadir / f"{user}@joiner::rsync_tunnel_sst{suffix}" for suffix in modules]
    for place in places:  # where the user name is taken for a path, it is there
        place.mkdir(parents=True)
    joining = joiner.start_joiner()
    environment = {"WSREP_SST_OPT_REMOTE_AUTH": f"{user}:pw"}
    donating = donor.start_donor(joining.ready(), environment=environment)
    assert donating.line() == ""
    assert donating.end() == 22, donating.log
    assert len(donating.errors()) == 1, donating.log
    assert [list(place.iterdir()) for place in places] == [[]] * len(places)
    joining.process.terminate()
    assert joining.end() == 32


@needs("rsync", "my_print_defaults")
@pytest.mark.parametrize("key", ["tcert", "tkey", "tca", "sockopt", "backup-threads", "confine"])
def test_a_command_in_an_option_file_is_a_value_that_is_not_possible(tmp_path: Path, key: str) -> None:
    own = self_signed("localhost")
    joiner = PlayedServer(tmp_path / "joiner").use(own, [own])
    joiner.options[key] = "|touch pwned;$(touch pwned)"
    run = joiner.start_joiner()
    assert run.line() == ""
    assert run.end() in (2, 22)
    assert len(run.errors()) == 1, run.log
    assert pwned(tmp_path) == []


def test_a_program_of_exec_gets_its_words_without_a_shell(tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        ends = Ends.make(tmp_path, cleanup)
        target = "exec:printf %s '$(touch pwned);`id`|' -- --help"
        _, connecting = ends.pair(target)
        assert talk(connecting.port, b"") == b"$(touch pwned);`id`|----help"
    assert pwned(tmp_path) == []


@pytest.mark.parametrize("option", ["--cert", "--ca", "--peer-name", "--ciphers", "--sockopt", "--config"])
def test_a_line_break_in_an_argument_makes_no_second_line_in_the_log(tmp_path: Path, option: str) -> None:
    with ExitStack() as cleanup:
        ends = Ends.make(tmp_path, cleanup)
        forged = "x\n2026-11-22T04:00:00.000Z INFO nothing to see here\x1b[2J"
        words = pytunnel("listen", *credentials(ends.node2), option, forged, "127.0.0.1:0", "exec:cat")
        with started(words) as failing:
            assert failing.wait() != 0
    (line,) = failing.lines
    assert line.startswith("pytunnel: ")
    assert "\x1b" not in line


def test_a_name_in_a_certificate_makes_no_second_line_in_the_log(tmp_path: Path) -> None:
    with ExitStack() as cleanup:
        ends = Ends.make(tmp_path, cleanup)
        assert ends.node1.certificate is not None
        forged = self_signed("evil\n2026-11-22T04:00:00.000Z INFO all is well")
        ends.node1.certificate.write_bytes(forged.combined_pem())
        listening, connecting = ends.pair("exec:cat")
        with pytest.raises(ConnectionResetError):
            talk(connecting.port, b"x" * 100_000)
        listening.wait_for("WARNING .* presented CN=evil")
    assert not [line for line in listening.lines if line.startswith("2026-11-22T04:00:00.000Z INFO all is well")]
    assert os.linesep not in "".join(listening.lines)
