"""One database server of a Galera cluster: its files, its process, its error log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import LabError, processes
from lab.client import Client
from lab.hosts import Host
from lab.optionfile import Options, option_file
from lab.ports import SST_DEFAULT, Ports, free_ports, join_host_port
from lab.site import Site
from lab.waiting import comes_true

START_LIMIT = 60.0
STOP_LIMIT = 20.0
# An SST program may still be ending when its server is already synced, or has gone.
GRACE = 5.0
_LOG_TAIL_LINES = 40

# Which files of a fresh datadir belong where one of these options says.
_FILE_SETS = {
    "innodb-data-home-dir": "ibdata*",
    "innodb-log-group-home-dir": "ib_logfile*",
    "innodb-undo-directory": "undo*",
    "aria-log-dir-path": "aria_log*",
}
# Small and without durability: a node starts in a second, and its data is thrown away anyhow.
_SMALL: Options = {
    "innodb-buffer-pool-size": "32M",
    "innodb-log-file-size": "8M",
    "innodb-undo-tablespaces": "2",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-buffer-pool-dump-at-shutdown": "0",
    "key-buffer-size": "4M",
    "aria-pagecache-buffer-size": "4M",
}
_GALERA: Options = {
    "skip-name-resolve": None,
    "binlog-format": "ROW",
    "default-storage-engine": "InnoDB",
    "innodb-autoinc-lock-mode": "2",
    "wsrep-on": "ON",
    "wsrep-slave-threads": "2",
}
# A node that dies without a word is dropped after six seconds.
_EVICTION = (
    "evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.25S;"
    "evs.suspect_timeout=PT4S;evs.inactive_timeout=PT6S;evs.install_timeout=PT6S"
)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """How one node is set up.

    `bind_address` None means the host's name; `ports` None Galera's own where the host has addresses of its own,
    free ones elsewhere; `receive_address` None that the server finds it out itself where the port is the usual one.
    `server` are further options of [mysqld], `sst` those of [sst], `groups` those of further groups. `{node}` in a
    value stands for the node's own directory. `environment` is what its server has besides the usual.
    """

    host: Host
    bind_address: str | None = None
    ports: Ports | None = None
    receive_address: str | None = None
    sst: Options = field(default_factory=dict)
    server: Options = field(default_factory=dict)
    groups: Mapping[str, Options] = field(default_factory=dict)
    group_suffix: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Node:
    """A server that `bootstrap` or `join` starts. As a context manager it is removed at the end, files and all."""

    def __init__(self, site: Site, cluster: str, name: str, settings: NodeSettings) -> None:
        """Make the node's files; `cluster` is the cluster's name, the same for all its nodes."""
        self.site = site
        self.name = name
        self.host = settings.host
        self.bind_address = settings.bind_address or settings.host.name
        self.address = _ip_address(self.bind_address, settings.host)
        self.ports = settings.ports or (Ports() if settings.host.namespace else free_ports(self.address))
        self.directory = site.directory / f"{cluster}-{name}"
        self.datadir = self.directory / "data"
        self.tmpdir = self.directory / "tmp"
        # First on the server's PATH, and empty: a test may put a program of its own there.
        self.programs = self.directory / "bin"
        self.sql = Client(site.programs.client, self.directory / "sock")
        self._cluster = cluster
        self._settings = settings
        self._log = self.directory / "error.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._make_files()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        """The server's process id. Raises LabError when it isn't running."""
        if self._process is None or not self.running:
            raise LabError(f"{self.name} isn't running\n{self.log_tail()}")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server's process is there."""
        return self._process is not None and self._process.poll() is None

    def bootstrap(self) -> None:
        """Start as the first node of a cluster. Raises LabError when it isn't ready in time."""
        self._launch([self], "--wsrep-new-cluster")
        self.wait_until_synced()
        # It outvotes the others: the cluster must survive a joiner that dies half-way.
        self.sql.run("SET GLOBAL wsrep_provider_options='pc.weight=3'")

    def join(self, *members: Node) -> None:
        """Start and join the cluster of `members`. Raises LabError when it isn't synced in time."""
        self.start_joining(*members)
        self.wait_until_synced()

    def start_joining(self, *members: Node) -> None:
        """Start so as to join the cluster of `members`, without waiting for the outcome."""
        self._launch(members)

    def synced(self) -> bool:
        """Whether the node answers, is ready and has all of the cluster's writes."""
        with suppress(LabError):
            return self.sql.status("wsrep_ready") == "ON" and self.state() == "Synced"
        return False

    def state(self) -> str:
        """Galera's word for what the node is doing."""
        return self.sql.status("wsrep_local_state_comment")

    def wait_until_synced(self, limit: float = START_LIMIT) -> None:
        """Wait until the node takes part in its cluster. Raises LabError after `limit` seconds, or when it ends."""
        if not comes_true(lambda: not self.running or self.synced(), limit, interval=0.2):
            raise LabError(f"{self.name} isn't synced after {limit:g} seconds\n{self.log_tail()}")
        if not self.running:
            raise LabError(f"{self.name} ended instead of joining\n{self.log_tail()}")

    def wait_until_ended(self, limit: float) -> None:
        """Wait until the server ends by itself. Raises LabError after `limit` seconds.

        An SST program that it ran may outlive it by a moment: its last words are waited for, GRACE seconds at most.
        """
        if not comes_true(lambda: not self.running, limit, interval=0.1):
            raise LabError(f"{self.name} did not end by itself within {limit:g} seconds\n{self.log_tail()}")
        comes_true(lambda: not processes.mentioning(self.directory), GRACE)

    def stop(self) -> None:
        """End the server as a service manager does: SIGTERM, and SIGKILL when that takes too long."""
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_LIMIT)

    def remove(self) -> None:
        """Stop the server, end what it left running, delete its files."""
        try:
            self.stop()
        finally:
            processes.end_mentioning(self.directory)
            shutil.rmtree(self.directory, ignore_errors=True)

    def error_log(self, since: int = 0) -> str:
        """The server's error log, from the byte `since` on."""
        return self._log.read_bytes()[since:].decode(errors="replace") if self._log.exists() else ""

    def log_position(self) -> int:
        """The error log's length by now, to give to `error_log`."""
        return self._log.stat().st_size if self._log.exists() else 0

    def log_tail(self) -> str:
        """The error log's end, to put into an exception."""
        return "\n".join(self.error_log().splitlines()[-_LOG_TAIL_LINES:])

    def _make_files(self) -> None:
        self.directory.mkdir()
        for folder in (self.tmpdir, self.programs, self.directory / "elsewhere"):
            folder.mkdir()
        shutil.copytree(self.site.template, self.datadir)
        for option, pattern in _FILE_SETS.items():
            value = self._settings.server.get(option)
            if value is not None:
                self._move_apart(pattern, self.datadir / self._expanded(value))
        self.site.account.own(self.directory)

    def _move_apart(self, pattern: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.datadir.glob(pattern):
            file.rename(folder / file.name)

    def _expanded(self, value: str) -> str:
        return value.replace("{node}", str(self.directory))

    def _launch(self, members: Sequence[Node], *words: str) -> None:
        options = self.directory / "my.cnf"
        options.write_text(self._expanded(option_file(self._groups(members))))
        # The suffix must come right after the file: the server wants both before any other option.
        command = [self.site.programs.server, f"--defaults-file={options}"]
        if self._settings.group_suffix is not None:
            command.append(f"--defaults-group-suffix={self._settings.group_suffix}")
        if os.geteuid() == 0:
            command.append(f"--user={self.site.account.name}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.host.command(*command, *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={
                    "PATH": f"{self.programs}:{self.site.path}",
                    "LC_ALL": "C.UTF-8",
                    **self._settings.environment,
                },
                # Ctrl-C is for us: we then stop the servers in order.
                start_new_session=True,
            )

    def _groups(self, members: Sequence[Node]) -> dict[str, Options]:
        group = ",".join(join_host_port(member.address, member.ports.group) for member in members)
        own: Options = {
            **_SMALL,
            **_GALERA,
            "datadir": str(self.datadir),
            "socket": str(self.sql.socket),
            "pid-file": str(self.directory / "pid"),
            "tmpdir": str(self.tmpdir),
            "bind-address": self.bind_address,
            "port": str(self.ports.mysql),
            "wsrep-provider": str(self.site.programs.provider),
            "wsrep-provider-options": self._provider_options(),
            "wsrep-cluster-name": self._cluster,
            "wsrep-cluster-address": f"gcomm://{group}",
            "wsrep-node-name": self.name,
            "wsrep-sst-method": self.site.method,
            **self._receive_address(),
        }
        return {"mysqld": {**own, **self._settings.server}, "sst": self._settings.sst, **self._settings.groups}

    def _provider_options(self) -> str:
        listen = join_host_port(self.address, self.ports.group)
        receive = join_host_port(self.address, self.ports.ist)
        return f"gcache.size=16M;gmcast.listen_addr=tcp://{listen};ist.recv_addr={receive};{_EVICTION}"

    def _receive_address(self) -> Options:
        if self._settings.receive_address is not None:
            return {"wsrep-sst-receive-address": self._settings.receive_address}
        if self.ports.sst == SST_DEFAULT:
            return {}
        return {"wsrep-sst-receive-address": join_host_port(self.bind_address, self.ports.sst)}


def _ip_address(bind_address: str, host: Host) -> str:
    by_name = {host.name: host.address, host.name6: host.address6, host.name.partition(".")[0]: host.address}
    return by_name.get(bind_address) or bind_address
