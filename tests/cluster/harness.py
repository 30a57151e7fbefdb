"""What the cluster tests share: a cluster under construction, and what must hold after a state transfer."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from lab import processes
from lab.capture import Capture, capturing
from lab.certificates import Identity, authority, issued, self_signed
from lab.compare import differences, replicates
from lab.credentials import combined_files, separate_files
from lab.hosts import Host
from lab.leftovers import leftovers
from lab.mariadb import Node, NodeSettings
from lab.optionfile import Options
from lab.sample import fill, procedure_runs
from lab.site import Site
from lab.sstlog import texts
from lab.waiting import until
from tests.support.faulty_relay import faulty_relay

Pair = tuple[Node, Node]
"""A donor and a joiner."""

_SLOW = 2 << 20  # bytes a second
_BEGINS = 30.0  # seconds
_LISTEN = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
time.sleep(60)
"""
# Files that a server which never gets a state doesn't touch: schemas and InnoDB's own.
_DATA = ("*/*", "ibdata*", "ib_logfile*", "undo*")


@dataclass(slots=True)
class Cluster:
    """Makes the nodes of one test and their credentials; `cleanup` removes them when the test ends."""

    site: Site
    name: str
    hosts: Sequence[Host]
    cleanup: ExitStack
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _folders: count[int] = field(default_factory=lambda: count(1))

    def node(self, settings: NodeSettings) -> Node:
        """A node that isn't started yet."""
        name = f"node{next(self._numbers)}"
        return self.cleanup.enter_context(Node(self.site, self.name, name, settings))

    def combined(self, own: Identity, trusted: Iterable[Identity]) -> Options:
        """The [sst] options of a node with a combined PEM."""
        return combined_files(self._folder(), self.site.account, own, trusted)

    def separate(self, own: Identity, trusted: Iterable[Identity]) -> Options:
        """The [sst] options of a node with certificate and key apart."""
        return separate_files(self._folder(), self.site.account, own, trusted)

    def self_signed(self, size: int = 2) -> list[NodeSettings]:
        """Settings for nodes on the first hosts, each with a self-signed certificate that all trust."""
        hosts = self.hosts[:size]
        identities = [self_signed(host.name) for host in hosts]
        return [
            NodeSettings(host=host, sst=self.combined(own, identities))
            for host, own in zip(hosts, identities, strict=True)
        ]

    def ca_issued(self) -> tuple[Identity, list[NodeSettings]]:
        """A certification authority, and settings for two nodes that have their certificates from it."""
        ca = authority("Test Authority")
        settings = [NodeSettings(host=host, sst=self.separate(issued(ca, host.name), [ca])) for host in self.hosts[:2]]
        return ca, settings

    def _folder(self) -> Path:
        return self.site.directory / f"{self.name}-tls{next(self._folders)}"


def with_server(settings: NodeSettings, options: Options) -> NodeSettings:
    """The same settings with further [mysqld] options."""
    return replace(settings, server={**settings.server, **options})


def with_sst(settings: NodeSettings, options: Options) -> NodeSettings:
    """The same settings with further [sst] options."""
    return replace(settings, sst={**settings.sst, **options})


def bootstrap_with_data(cluster: Cluster, settings: NodeSettings) -> Node:
    """A running first node that holds the sample data."""
    donor = cluster.node(settings)
    donor.bootstrap()
    fill(donor)
    return donor


def assert_joined(donor: Node, joiner: Node, *others: Node) -> None:
    """The joiner has all of the donor's data and works with it; no error was logged, nothing is left over.

    `others` are further running nodes on the same hosts.
    """
    assert_equal_and_working(donor, joiner, *others)
    assert errors(donor) + errors(joiner) == []


def assert_equal_and_working(donor: Node, joiner: Node, *others: Node) -> None:
    """As `assert_joined`, whatever was logged before."""
    assert differences(donor, joiner) == []
    assert procedure_runs(joiner)
    assert replicates(donor, joiner)
    assert replicates(joiner, donor)
    assert leftovers(donor, joiner, *others) == []


@contextmanager
def transfer_captured(joiner: Node) -> Iterator[Capture]:
    """Record all that passes the joiner's network but Galera's replication and incremental transfers."""
    galera = (joiner.ports.group, joiner.ports.ist)
    with capturing(joiner.host, joiner.directory / "packets", other_than=galera) as capture:
        yield capture


@contextmanager
def relay_between(donor: Node, joiner: Node, hosts: Sequence[Host], *faults: str) -> Iterator[None]:
    """Let the donor reach the joiner's name by way of the third host, where connections have these faults."""
    third = hosts[2]
    file = Path("/etc/netns") / str(donor.host.namespace) / "hosts"
    names = file.read_text()
    target = (joiner.address, joiner.ports.sst)
    with faulty_relay(target, *faults, at=(third.address, joiner.ports.sst), prefix=third.command()):
        try:
            file.write_text(names.replace(f"{joiner.address} ", f"{third.address} "))
            yield
        finally:
            file.write_text(names)


@contextmanager
def midway(pair: Pair, hosts: Sequence[Host]) -> Iterator[None]:
    """A transfer that has begun, and that takes several seconds more, at least with 15 MB."""
    donor, joiner = pair
    with relay_between(donor, joiner, hosts, f"slow={_SLOW}"):
        joiner.start_joining(donor)
        until(lambda: (joiner.datadir / "shop").exists(), _BEGINS, "the first schema to arrive", interval=0.02)
        yield


def assert_next_one_succeeds(pair: Pair) -> None:
    donor, joiner = pair
    donor.wait_until_synced()
    joiner.join(donor)
    assert_equal_and_working(donor, joiner)


def sst_program(node: Node) -> int:
    """The process of the SST program that the node's server has started."""
    return processes.sst_program(node.directory, node.site.method)


def errors(node: Node) -> list[str]:
    """What SST programs reported as an error on this node."""
    return texts(node.error_log(), "ERROR")


def infos(node: Node) -> list[str]:
    """What SST programs reported as a matter of course on this node."""
    return texts(node.error_log(), "INFO")


def warnings(node: Node) -> list[str]:
    """What SST programs warned of on this node."""
    return texts(node.error_log(), "WARNING")


def fingerprint(node: Node) -> dict[str, str]:
    """A digest of each data file of the node, by path."""
    files = {path for pattern in _DATA for path in node.datadir.glob(pattern) if path.is_file()}
    return {str(path.relative_to(node.datadir)): _digest(path) for path in sorted(files)}


@contextmanager
def sst_port_taken(node: Node) -> Iterator[Popen[str]]:
    """Another program, at work in the node's datadir, that listens on the node's SST port."""
    words = node.host.command(sys.executable, "-c", _LISTEN, node.address, str(node.ports.sst))
    with Popen(words, stdin=DEVNULL, stdout=PIPE, text=True, cwd=node.datadir) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
