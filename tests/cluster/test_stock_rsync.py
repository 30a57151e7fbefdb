"""The server's own rsync method, unmodified, with pytunnel as a sidecar on both nodes: docs/sidecar.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.capture import Capture, capturing
from lab.certificates import self_signed
from lab.hosts import Host
from lab.mariadb import Node, NodeSettings
from lab.sample import MARKER
from pytunnel.tls.settings import TlsSettings
from tests.cluster.harness import Cluster, assert_equal_and_working, bootstrap_with_data
from tests.support.credentials import settings_of
from tests.support.tunnels import Program, credentials, pytunnel, started

PROXY = "127.0.0.1:8873"
LOOPBACK = "127.0.1.1"
"""What Debian's /etc/hosts has for a host's own name."""
_ETC = Path("/etc/netns")


@dataclass(frozen=True, slots=True)
class NamedHost(Host):
    """A host on which `hostname` tells its own name, and not that of the machine that runs the tests."""

    def command(self, *words: str) -> list[str]:
        hostname = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", str(self.namespace), *hostname, *words]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes with the stock method; the donor's rsync asks its sidecar for what it wants to reach."""

    donor: NamedHost
    joiner: NamedHost
    donor_tls: TlsSettings
    joiner_tls: TlsSettings

    def settings(self, host: Host, **environment: str) -> NodeSettings:
        """A node that uses the server's own method, and announces its name."""
        return NodeSettings(
            host=host,
            bind_address=host.address,
            receive_address=f"{host.name}:4444",
            server={"wsrep-sst-method": "rsync"},
            environment=environment,
        )

    @contextmanager
    def sidecars(self, port: int = 4444) -> Iterator[tuple[Program, Program]]:
        """The donor's sidecar and the joiner's, which listens at `port` of the joiner's network address."""
        gateway = ["--http-connect", PROXY, "--allow-target", "*.my.cluster:4444", "--target-port", str(port)]
        entrance = ["--peer-name", self.donor.name, f"{self.joiner.address}:{port}", f"{self.joiner.name}:4444"]
        connect = self.donor.command(*pytunnel("connect", *credentials(self.donor_tls), *gateway))
        listen = self.joiner.command(*pytunnel("listen", *credentials(self.joiner_tls), *entrance))
        with started(connect) as donors, started(listen) as joiners:
            for program in (donors, joiners):
                program.wait_for("accepting ")
            yield donors, joiners


@pytest.fixture
def pair(named_hosts: tuple[Host, ...], tmp_path: Path) -> Pair:
    hosts = [NamedHost(each.name, each.address, each.name6, each.address6, each.namespace) for each in named_hosts[:2]]
    own = [self_signed(host.name) for host in hosts]
    tls = [settings_of(tmp_path / host.name, identity, own) for host, identity in zip(hosts, own, strict=True)]
    return Pair(*hosts, *tls)


@contextmanager
def own_name_at(host: Host, address: str) -> Iterator[None]:
    """Let the host's own name lead to `address` on itself; elsewhere it leads to the host as before."""
    file = _ETC / str(host.namespace) / "hosts"
    before = file.read_text()
    file.write_text(before.replace(f"{host.address} {host.name}", f"{address} {host.name}"))
    try:
        yield
    finally:
        file.write_text(before)


@contextmanager
def network_captured(joiner: Node) -> Iterator[Capture]:
    """Record what leaves or enters the joiner, but for Galera's own traffic."""
    galera = (joiner.ports.group, joiner.ports.ist)
    with capturing(joiner.host, joiner.directory / "packets", other_than=galera, interface="eth0") as capture:
        yield capture


@pytest.mark.usefixtures("tcpdump")
def test_no_row_is_seen_on_the_network_when_sidecars_carry_the_own_method(pair: Pair, cluster: Cluster) -> None:
    donor = bootstrap_with_data(cluster, pair.settings(pair.donor, RSYNC_PROXY=PROXY))
    joiner = cluster.node(pair.settings(pair.joiner))
    with ExitStack() as during:
        during.enter_context(own_name_at(pair.joiner, LOOPBACK))
        connecting, listening = during.enter_context(pair.sidecars())
        with network_captured(joiner) as capture:
            joiner.join(donor)
        connecting.wait_for(rf"-> {pair.joiner.name}:4444 ended: .* with CN={pair.joiner.name}")
        listening.wait_for(rf"-> {pair.joiner.name}:4444 ended: .* with CN={pair.donor.name}")
    assert_equal_and_working(donor, joiner)
    assert not capture.contains(MARKER)
    assert capture.size() > sum(file.stat().st_size for file in donor.datadir.glob("ibdata*"))


@pytest.mark.usefixtures("tcpdump")
def test_a_donor_that_does_not_ask_its_sidecar_gets_nowhere(pair: Pair, cluster: Cluster) -> None:
    donor = bootstrap_with_data(cluster, pair.settings(pair.donor))  # without RSYNC_PROXY
    joiner = cluster.node(pair.settings(pair.joiner))
    with own_name_at(pair.joiner, LOOPBACK), pair.sidecars() as (_, listening), network_captured(joiner) as capture:
        joiner.start_joining(donor)
        listening.wait_for(rf"WARNING {pair.donor.address}:\d+ -> .*TLS")
        joiner.wait_until_ended(60)
    assert not capture.contains(MARKER)
    assert donor.running


def test_the_joiner_s_sidecar_may_be_at_another_port_of_the_same_address(pair: Pair, cluster: Cluster) -> None:
    donor = bootstrap_with_data(cluster, pair.settings(pair.donor, RSYNC_PROXY=PROXY))
    joiner = cluster.node(pair.settings(pair.joiner))
    with pair.sidecars(port=14444) as (connecting, _):
        joiner.join(donor)
        connecting.wait_for(rf"-> {pair.joiner.name}:4444 ended: .* with CN={pair.joiner.name}")
    assert_equal_and_working(donor, joiner)


def test_a_joiner_with_another_name_gets_no_data(pair: Pair, cluster: Cluster, tmp_path: Path) -> None:
    names = [pair.donor.name, "other.my.cluster"]
    own = [self_signed(name) for name in names]
    tls = [settings_of(tmp_path / f"wrong-{name}", each, own) for name, each in zip(names, own, strict=True)]
    wrong = Pair(pair.donor, pair.joiner, *tls)
    donor = bootstrap_with_data(cluster, pair.settings(pair.donor, RSYNC_PROXY=PROXY))
    joiner = cluster.node(pair.settings(pair.joiner))
    with own_name_at(pair.joiner, LOOPBACK), wrong.sidecars() as (connecting, _):
        joiner.start_joining(donor)
        connecting.wait_for(f"WARNING .* presented CN=other.my.cluster, expected {pair.joiner.name}")
        joiner.wait_until_ended(60)
    assert donor.running
