"""A played database server: it runs the SST program as a real one does, and answers it.

For what a real server can't be made to do on demand (die between two lines, be slow, say that a flush failed).
The real ones are in tests/cluster.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from lab.certificates import Identity, bundle_pem, self_signed
from lab.ports import free_port
from pytunnel.sst.manifest import REDO, SYSTEM

METHOD = Path(__file__).parents[2] / "wsrep_sst_rsync_tunnel"
_REFUSED_CALL = Path(__file__).with_name("refused_call.py")
IMPATIENT = Path(__file__).with_name("impatient_sst.py")
POSITION = "0d461b48-e638-11f1-b5bf-7b336a8bfa1f:16 0"
GTID, DOMAIN = POSITION.split()
INNODB = {"ibdata1": "", "ib_logfile0": ""}
"""What every donor has in its datadir, unless its options place it elsewhere: no server starts without."""
LIMIT = 30.0  # seconds for any wait


def refused(call: str, number: int) -> tuple[str, ...]:
    """What to put before a command so that a system call fails with this errno, whoever makes it."""
    return (sys.executable, str(_REFUSED_CALL), call, str(number))


@dataclass(slots=True)
class PlayedServer:
    """One node: its directories, its option file, and the SST program that it runs; `tmp` is its tmpdir's name.

    As a donor it has InnoDB's files unless `innodb` says that there are none.
    """

    root: Path
    tmp: str = "tmp"
    host: str = "127.0.0.1"
    options: dict[str, str] = field(default_factory=dict)
    server_options: dict[str, str] = field(default_factory=dict)
    program: Path = METHOD
    prefix: tuple[str, ...] = ()
    innodb: bool = True
    position: str = POSITION

    def __post_init__(self) -> None:
        self.datadir.mkdir(parents=True)
        self.tmpdir.mkdir(parents=True, exist_ok=True)

    @property
    def datadir(self) -> Path:
        return self.root / "data"

    @property
    def tmpdir(self) -> Path:
        return self.root / self.tmp

    def use(self, own: Identity, trusted: list[Identity]) -> PlayedServer:
        """Write the certificate, combined with its key, and the bundle; name both in `[sst]`."""
        certificate, bundle = self.root / "node.pem", self.root / "bundle.crt"
        certificate.touch(mode=0o600)
        certificate.write_bytes(own.combined_pem())
        bundle.write_bytes(bundle_pem(trusted))
        self.options |= {"tcert": str(certificate), "tca": str(bundle)}
        return self

    def start(self, role: str, address: str, *more: str, environment: dict[str, str] | None = None) -> Run:
        """Run the SST program; its standard output and error are collected."""
        defaults = self.root / "my.cnf"
        groups = (("mysqld", {"tmpdir": str(self.tmpdir), **self.server_options}), ("sst", self.options))
        text = "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
            for group, options in groups
        )
        defaults.write_text(text)
        command = [*self.prefix, sys.executable, str(self.program), "--role", role, "--address", address]
        command += ["--datadir", f"{self.datadir}/", "--defaults-file", str(defaults), "--progress", "0", *more]
        process = subprocess.Popen(
            command,
            env=os.environ | (environment or {}),
            cwd=self.datadir,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Run(self, process)

    def start_joiner(self, *more: str) -> Run:
        """Run it as joiner on a free port of this node's address."""
        return self.start("joiner", f"{self.host}:{free_port(self.host)}", *more)

    def start_donor(self, ready: Ready, *more: str, environment: dict[str, str] | None = None) -> Run:
        """Run it as donor for what the joiner's ready line said."""
        if self.innodb:
            self._make_innodb()
        secret = {"WSREP_SST_OPT_REMOTE_AUTH": ready.secret} if ready.secret else {}
        gtid = ("--gtid", GTID, "--gtid-domain-id", DOMAIN)
        return self.start("donor", ready.address, *gtid, *more, environment=secret | (environment or {}))

    def _make_innodb(self) -> None:
        for files in (SYSTEM, REDO):
            directory = self.datadir / self.server_options.get(files.option, "")
            if directory.is_dir() and not any(files.holds(path.name) for path in directory.iterdir()):
                for name in filter(files.holds, INNODB):
                    (directory / name).write_text(INNODB[name])

    def flush(self) -> None:
        """Answer `flush tables`."""
        temporary = self.datadir / "tables_flushed.tmp"
        temporary.write_text(f"{self.position}\n")
        temporary.rename(self.datadir / "tables_flushed")

    def remains(self) -> list[str]:
        """What a transfer must not leave: its files in the datadir, anything in the temporary directory."""
        ours = ("rsync_tunnel_sst*", "wsrep_sst*", "sst_in_progress", "tables_flushed*", "sst_error")
        found = [path for pattern in ours for path in self.datadir.glob(pattern)]
        return [str(path) for path in (*found, *self.tmpdir.iterdir())]


@dataclass(frozen=True, slots=True)
class Ready:
    """A joiner's ready line."""

    address: str
    secret: str | None

    @property
    def port(self) -> int:
        match = re.search(r":(\d+)/", self.address)
        assert match is not None
        return int(match[1])


class Run:
    """One run of the SST program."""

    def __init__(self, server: PlayedServer, process: subprocess.Popen[str]) -> None:
        self.server = server
        self.process = process
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        return "".join(self._errors)

    def line(self, limit: float = LIMIT) -> str:
        """The next line on its standard output; "" when it has ended, as it has to after `limit` seconds of silence."""
        timer = threading.Timer(limit, self.process.kill)
        timer.start()
        try:
            assert self.process.stdout is not None
            return self.process.stdout.readline().rstrip("\n")
        finally:
            timer.cancel()

    def expect(self, line: str, limit: float = LIMIT) -> None:
        """The next line on its standard output must be this one, within `limit` seconds."""
        said = self.line(limit)
        assert said == line, f"said {said!r} instead of {line!r}; its log:\n{self.log}"

    def ready(self) -> Ready:
        """Read the ready line."""
        said = self.line()
        match = re.fullmatch(r"ready (?:([^@]+)@)?(\S+)", said)
        assert match is not None, f"said {said!r}; its log:\n{self.log}"
        return Ready(match[2], match[1])

    def end(self) -> int:
        """Wait for its end; its exit status."""
        status = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        return status

    def errors(self) -> list[str]:
        """The texts of the [ERROR] lines in its log."""
        return re.findall(r"^WSREP_SST: \[ERROR\] (.*) \(\d{8} \d\d:\d\d:\d\d\.\d{3}\)$", self.log, re.MULTILINE)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)


def shops(root: Path) -> tuple[PlayedServer, PlayedServer]:
    """A donor with one table, and a joiner that has an older one; they trust each other."""
    donor, joiner = PlayedServer(root / "donor"), PlayedServer(root / "joiner")
    for server, rows in ((donor, "new"), (joiner, "old")):
        (server.datadir / "shop").mkdir()
        (server.datadir / "shop" / "t.ibd").write_text(rows)
    identities = [self_signed("localhost"), self_signed("localhost")]
    return donor.use(identities[0], identities), joiner.use(identities[1], identities)


def assert_old_data(joiner: PlayedServer) -> None:
    """The joiner of `shops` has what it had."""
    assert (joiner.datadir / "shop" / "t.ibd").read_text() == "old"


def assert_ended(run: Run, error: str, status: int) -> None:
    """It ended with this status and one error line that contains `error`, and nothing of it is left."""
    assert run.end() == status, run.log
    assert len(run.errors()) == 1, run.log
    assert error in run.errors()[0]
    assert "Traceback" not in run.log
    assert run.server.remains() == []


def finish(donating: Run, joining: Run) -> None:
    """The rest of a transfer whose donor's tables are flushed; both must end well."""
    donating.expect("continue")
    donating.expect(f"done {POSITION}")
    joining.expect(POSITION)
    assert (donating.end(), joining.end()) == (0, 0)
