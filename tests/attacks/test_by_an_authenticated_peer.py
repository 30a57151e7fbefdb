"""What a donor or a joiner with a good certificate and the secret can try: no more than a transfer needs.

The malicious donor speaks to the rsync that a joiner starts, with its configuration, and asks for whatever it likes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.certificates import self_signed
from tests.support.programs import needs
from tests.support.sst import LIMIT, POSITION, PlayedServer

pytestmark = needs("rsync", "my_print_defaults")

MODULE = "rsync_tunnel_sst"
OWN = ("grastate.dat", "my.cnf", "auto.cnf")
# The joiner's rsync for one connection; by way of pipes, where the joiner has a socket for both directions.
_DAEMON = "sh -c 'exec rsync --server --daemon --config=$CONFIG .'"


@dataclass(frozen=True, slots=True)
class Victim:
    """A joiner that is ready, with files that no donor may touch or see."""

    server: PlayedServer
    config: Path

    @property
    def outside(self) -> Path:
        return self.server.root / "outside"

    def rsync(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What comes of the malicious donor's rsync; `{to}` in an argument is the joiner's module."""
        password = (self.config.parent / "secrets").read_text().strip().partition(":")[2]
        words = [argument.replace("{to}", f"pytunnel@joiner::{MODULE}") for argument in arguments]
        return subprocess.run(
            ["rsync", f"--rsh={_DAEMON}", *words],
            env=os.environ | {"RSYNC_PASSWORD": password, "CONFIG": str(self.config)},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )

    def untouched(self) -> bool:
        """Whether everything that no donor may touch is as it was."""
        assert (self.server.datadir / "wsrep_sst.pid").read_text().strip().isdecimal()
        unharmed = [(self.server.datadir / name).read_text() == f"own {name}" for name in OWN]
        return all(unharmed) and sorted(path.name for path in self.outside.iterdir()) == ["precious"]


def reachable_config(joiner: PlayedServer) -> Path:
    """The configuration of a joiner's rsync, usable without the pipe into which the joiner has it write its log."""
    (config,) = joiner.tmpdir.glob("pytunnel-*/rsyncd.conf")
    copy = config.with_name("copy.conf")
    copy.write_text(re.sub(r"log file = .*", "log file = /dev/null", config.read_text()))
    return copy


@pytest.fixture(scope="module")
def joiner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedServer]:
    """A joiner that is ready, and stays so: nobody connects to it, its configuration alone is used."""
    own = self_signed("localhost")
    found = PlayedServer(tmp_path_factory.mktemp("victim") / "joiner").use(own, [own])
    for name in OWN:
        (found.datadir / name).write_text(f"own {name}")
    (found.root / "outside").mkdir()
    (found.root / "outside" / "precious").write_text("precious")
    run = found.start_joiner()
    run.ready()
    yield found
    run.process.terminate()
    run.end()
    assert found.remains() == []


@pytest.fixture
def victim(joiner: PlayedServer) -> Iterator[Victim]:
    """The joiner without a schema; whatever a test does, what no donor may touch is as it was."""
    before = {path: path.lstat().st_ino for path in joiner.datadir.iterdir()}
    found = Victim(joiner, reachable_config(joiner))
    yield found
    assert found.untouched()
    assert (found.outside / "precious").read_text() == "precious"
    assert (found.outside / "precious").stat().st_nlink == 1
    assert {path for path in before if not path.exists() or path.lstat().st_ino != before[path]} == set()
    for path in joiner.datadir.iterdir():
        if path not in before:
            assert path.is_dir() or path.is_symlink(), f"{path} is no schema"
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The malicious donor's own files."""
    folder = tmp_path / "source"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "t.ibd").write_text("from the donor")
    return folder


# Writing.


@pytest.fixture(params=["data", "data/tmp"])
def careless(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Victim]:
    """A joiner that is ready, and whose tmpdir, with the secret in it, lies where a donor may write."""
    own = self_signed("localhost")
    server = PlayedServer(tmp_path / "joiner", tmp=request.param).use(own, [own])
    run = server.start_joiner()
    run.ready()
    yield Victim(server, reachable_config(server))
    run.process.terminate()
    run.end()


@pytest.mark.parametrize("arguments", [("-r",), ("-r", "--delete", "--force"), ("-rR", "--no-implied-dirs"), ("-rI",)])
def test_a_donor_can_not_meddle_with_our_own_files_wherever_they_lie(
    careless: Victim, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    private = careless.config.parent
    before = {path: path.read_bytes() for path in private.iterdir() if path.is_file()}
    inside = private.relative_to(careless.server.datadir)
    forged = tmp_path / "source" / inside / "rsyncd.conf"
    forged.parent.mkdir(parents=True)
    forged.write_text("pre-xfer exec = id")
    for source, target in (
        ("./", ""),
        (f"./{inside}/rsyncd.conf", f"{inside}/rsyncd.conf"),
        (f"{inside}/", f"{inside}/"),
    ):
        careless.rsync(*arguments, f"{tmp_path}/source/{source}", f"{{to}}/{target}")
    assert {path: path.read_bytes() for path in private.iterdir() if path.is_file()} == before


def test_a_donor_does_not_learn_the_name_of_our_own_directory(careless: Victim, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    told = careless.rsync("-rnvv", "--delete", f"{tmp_path}/source/", "{to}/")
    assert told.returncode == 0
    assert careless.config.parent.name not in told.stdout + told.stderr


def test_a_donor_can_write_a_schema(victim: Victim, source: Path) -> None:
    """Or all that follows would prove nothing."""
    assert victim.rsync("-r", f"{source}/", "{to}/").returncode == 0
    assert (victim.server.datadir / "shop" / "t.ibd").read_text() == "from the donor"


@pytest.mark.parametrize(
    "path",
    [
        *("grastate.dat", "my.cnf", "auto.cnf", "gvwstate.dat", "galera.cache", "ibdata0", "wsrep_sst.pid"),
        *("sst_in_progress", "tables_flushed", "wsrep_sst_status.sock", "lost+found/x", ".zfs/x", "x"),
        *("../outside/x", "../../x", "shop/../../outside/x", "/etc/x", "./.././outside/x", "../tmp/x"),
    ],
)
def test_a_donor_can_write_no_other_file(victim: Victim, source: Path, path: str) -> None:
    before = sorted(victim.server.root.rglob("*"))
    victim.rsync("--inplace", str(source / "shop" / "t.ibd"), f"{{to}}/{path}")
    made = [item for item in victim.server.root.rglob("*") if item not in before]
    assert all(victim.server.datadir / "etc" == item or victim.server.datadir / "etc" in item.parents for item in made)


@pytest.mark.parametrize(
    "module", ["-plan", "-log_dir", "-undo_dir", "-aria_log", "-data_dir", "-private", "/../../tmp", "../x"]
)
def test_a_donor_can_write_no_other_file_through_another_module(victim: Victim, source: Path, module: str) -> None:
    done = victim.rsync("-r", f"{source}/", f"{{to}}{module}/")
    assert done.returncode != 0 or not list(victim.server.root.rglob("t.ibd")), done.stdout


def test_a_donor_can_delete_nothing_but_schemas_and_files_of_the_sets(victim: Victim, source: Path) -> None:
    (victim.server.datadir / "old_schema").mkdir()
    victim.rsync("-r", "--delete", "--delete-excluded", "--force", f"{source}/", "{to}/")
    assert (victim.server.datadir / "grastate.dat").exists()
    assert (victim.config.parent / "secrets").exists()


@pytest.mark.parametrize("target", ["outside", "../outside"])
@pytest.mark.parametrize("options", [(), ("--keep-dirlinks",), ("-R",)])
def test_a_donor_can_not_write_through_a_link_that_it_has_sent(
    victim: Victim, source: Path, target: str, options: tuple[str, ...]
) -> None:
    place = str(victim.outside) if target == "outside" else "../outside"
    (source / "evil").symlink_to(place)
    (source / "shop" / "evil").symlink_to(f"../{place}" if place.startswith("..") else place)
    victim.rsync("-rl", f"{source}/", "{to}/")
    for name in ("evil", "shop/evil"):
        (source / name).unlink()
        (source / name).mkdir()
        (source / name / "planted").write_text("from the donor")
        victim.rsync("-rl", *options, f"{source}/", "{to}/")
        victim.rsync("-l", *options, str(source / name / "planted"), f"{{to}}/{name}/planted")
        victim.rsync("-l", "--inplace", str(source / name / "planted"), f"{{to}}/{name}/precious")


@pytest.mark.parametrize("option", ["--link-dest", "--copy-dest", "--compare-dest"])
def test_a_donor_can_not_bring_the_joiner_s_other_files_into_the_datadir(
    victim: Victim, source: Path, option: str
) -> None:
    (source / "shop" / "precious").write_text("precious")
    os.utime(source / "shop" / "precious", ns=(0, (victim.outside / "precious").stat().st_mtime_ns))
    for place in (str(victim.outside), "../outside", "../../outside"):
        victim.rsync("-rt", f"{option}={place}", f"{source}/", "{to}/")
        victim.rsync("-t", f"{option}={place}", str(source / "shop" / "precious"), "{to}/shop/")


@pytest.mark.parametrize(
    "option",
    [
        *("--backup-dir=../outside", "--temp-dir=../outside", "--partial-dir=../outside", "--log-file=../outside/log"),
        *("--write-devices", "--copy-devices", "--devices", "--specials", "--super", "--fake-super"),
    ],
)
def test_an_option_that_leads_elsewhere_is_refused(victim: Victim, source: Path, option: str) -> None:
    (victim.server.datadir / "shop").mkdir()
    (victim.server.datadir / "shop" / "t.ibd").write_text("old")
    done = victim.rsync("-rb", f"--remote-option={option}", f"{source}/", "{to}/")
    assert done.returncode != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")
def test_devices_pipes_and_sockets_do_not_arrive(victim: Victim, source: Path) -> None:
    os.mknod(source / "shop" / "disk", 0o060666, os.makedev(1, 1))
    os.mkfifo(source / "shop" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "shop" / "socket"))
        for options in (("-rD",), ("-r", "--specials"), ("-r", "--devices"), ("-r",)):
            victim.rsync(*options, f"{source}/", "{to}/")
    arrived = list((victim.server.datadir / "shop").iterdir()) if (victim.server.datadir / "shop").exists() else []
    assert all(path.is_file() for path in arrived), arrived


def test_a_setuid_program_arrives_as_a_file_like_others(victim: Victim, source: Path) -> None:
    """It would be one of the server's user, for every user of the host."""
    program = source / "shop" / "t.ibd"
    program.chmod(0o6755)
    assert victim.rsync("-rp", f"{source}/", "{to}/").returncode == 0
    assert (victim.server.datadir / "shop" / "t.ibd").stat().st_mode & 0o7777 == 0o755


# Reading.


def test_a_donor_can_read_nothing(victim: Victim, source: Path, tmp_path: Path) -> None:
    (victim.server.datadir / "shop").mkdir()
    (victim.server.datadir / "shop" / "secret.ibd").write_text("rows of the joiner")
    place = tmp_path / "stolen"
    for path in ("{to}/", "{to}/shop/secret.ibd", "{to}/grastate.dat", "{to}-plan/", "{to}/../outside/precious"):
        assert victim.rsync("-r", path, f"{place}/").returncode != 0
    listing = victim.rsync("-r", "--list-only", "{to}/")
    assert "secret.ibd" not in listing.stdout
    assert not place.exists() or not list(place.iterdir())


def test_the_modules_that_are_shown_are_those_of_the_transfer(victim: Victim) -> None:
    suffixes = ("", "-plan", "-data_dir", "-log_dir", "-undo_dir", "-aria_log")
    assert set(victim.rsync("joiner::").stdout.split()) == {MODULE + suffix for suffix in suffixes}


# A malicious joiner.


def test_a_joiner_can_not_make_the_donor_read_other_files(tmp_path: Path) -> None:
    """Its rsync asks for what it likes; the donor's sends files of its list, and links as links."""
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor = PlayedServer(tmp_path / "donor").use(identities[0], identities)
    joiner = PlayedServer(tmp_path / "joiner").use(identities[1], identities)
    (donor.root / "precious").write_text("precious")
    (donor.datadir / "my.cnf").write_text("password=precious")
    (donor.datadir / "shop").mkdir()
    (donor.datadir / "shop" / "t.ibd").write_text("rows")
    (donor.datadir / "shop" / "inside").symlink_to("t.ibd")
    joining = joiner.start_joiner()
    ready = joining.ready()
    (config,) = joiner.tmpdir.glob("pytunnel-*/rsyncd.conf")
    text = config.read_text()
    lines = [line for line in text.splitlines() if not line.strip().startswith(("filter", "refuse", "write only"))]
    config.write_text("\n".join(lines) + "\n")
    donating = donor.start_donor(ready)
    donating.expect("flush tables")
    donor.flush()
    donating.expect("continue")
    donating.expect(f"done {POSITION}")
    assert (donating.end(), joining.end()) == (0, 0)
    arrived = [path for path in joiner.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any("precious" in path.read_text() for path in arrived)
    assert (joiner.datadir / "shop" / "inside").is_symlink()
    assert not (joiner.datadir / "my.cnf").exists()
