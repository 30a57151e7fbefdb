"""The server's own rsync method, unmodified, with pytunnel as a sidecar on both nodes: docs/sidecar.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from lab.capture import Capture, capturing
from lab.certificates import Identity, self_signed
from lab.hosts import Host
from lab.install import CHECKOUT
from lab.mariadb import Node, NodeSettings
from lab.sample import MARKER
from tests.cluster.harness import Cluster, assert_equal_and_working, bootstrap_with_data
from tests.support.credentials import settings_of
from tests.support.documents import example
from tests.support.tunnels import Program, pytunnel, started

PROXY = "127.0.0.1:8873"
LOOPBACK = "127.0.1.1"
"""What Debian's /etc/hosts has for a host's own name."""
ON_HOSTS = example((CHECKOUT / "docs" / "sidecar.md").read_text(), "stock-toml")
"""A node's configuration as the document has it: its names and addresses are those of the lab."""
_ETC = Path("/etc/netns")


def _of_kubernetes() -> str:
    documents = yaml.safe_load_all((CHECKOUT / "conf" / "kubernetes" / "sidecar.yaml").read_text())
    text: str = next(each for each in documents if each["kind"] == "ConfigMap")["data"]["pytunnel.toml"]
    for number in range(3):
        text = text.replace(f"db-{number}.db.galera", f"node{number + 1}.my.cluster")
    return text.replace("*.db.galera", "*.my.cluster")


IN_PODS = _of_kubernetes()
"""A pod's configuration, with the lab's names in the place of the pods'."""


@dataclass(frozen=True, slots=True)
class NamedHost(Host):
    """A host on which `hostname` tells its own name, and not that of the machine that runs the tests."""

    def command(self, *words: str) -> list[str]:
        hostname = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", str(self.namespace), *hostname, *words]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes with the stock method; the donor's rsync asks its sidecar for what it wants to reach."""

    donor: Host
    joiner: Host
    folder: Path
    own: Sequence[Identity]

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
    def sidecars(self, text: str) -> Iterator[tuple[Program, Program]]:
        """The donor's sidecar and the joiner's, each with the configuration `text` as it is for its host."""
        with ExitStack() as running:
            programs = [self._sidecar(running, text, host) for host in (self.donor, self.joiner)]
            for program in programs:
                for name in ("receive", "send"):
                    program.wait_for(rf"{name}.* accepting ")
            yield programs[0], programs[1]

    def _sidecar(self, running: ExitStack, text: str, host: Host) -> Program:
        number = (self.donor, self.joiner).index(host)
        tls = settings_of(self.folder / host.name, self.own[number], self.own)
        own = re.sub(r"(?m)^(key = .*\n)", "", text).replace("192.0.2.1:", f"{host.address}:")
        own = re.sub(r"(?m)^cert = .*", f'cert = "{tls.certificate}"', own)
        own = re.sub(r"(?m)^ca = .*", f'ca = "{tls.ca}"', own)
        file = self.folder / f"{host.name}.toml"
        file.write_text(own)
        return running.enter_context(started(host.command(*pytunnel("run", "--config", str(file)))))


@pytest.fixture
def pair(named_hosts: tuple[Host, ...], tmp_path: Path) -> Pair:
    hosts = [NamedHost(each.name, each.address, each.name6, each.address6, each.namespace) for each in named_hosts[:2]]
    return Pair(hosts[0], hosts[1], tmp_path, [self_signed(host.name) for host in hosts])


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
        connecting, listening = during.enter_context(pair.sidecars(ON_HOSTS))
        with network_captured(joiner) as capture:
            joiner.join(donor)
        connecting.wait_for(rf"-> {pair.joiner.name}:4444 ended: .* with CN={pair.joiner.name}")
        listening.wait_for(rf"-> {LOOPBACK}:4444 ended: .* with CN={pair.donor.name}")
    assert_equal_and_working(donor, joiner)
    assert not capture.contains(MARKER)
    assert capture.size() > sum(file.stat().st_size for file in donor.datadir.glob("ibdata*"))


@pytest.mark.usefixtures("tcpdump")
def test_a_donor_that_does_not_ask_its_sidecar_gets_nowhere(pair: Pair, cluster: Cluster) -> None:
    donor = bootstrap_with_data(cluster, pair.settings(pair.donor))  # without RSYNC_PROXY
    joiner = cluster.node(pair.settings(pair.joiner))
    with ExitStack() as during:
        during.enter_context(own_name_at(pair.joiner, LOOPBACK))
        _, listening = during.enter_context(pair.sidecars(ON_HOSTS))
        capture = during.enter_context(network_captured(joiner))
        joiner.start_joining(donor)
        listening.wait_for(rf"WARNING .*{pair.donor.address}:\d+ -> .*TLS")
        joiner.wait_until_ended(60)
    assert not capture.contains(MARKER)
    assert donor.running


def test_the_pods_of_the_kubernetes_example_transfer_alike(pair: Pair, cluster: Cluster) -> None:
    # Their names are not what `hostname` says, here that of this machine, so rsync listens at all addresses.
    pods = replace(pair, donor=cluster.hosts[0], joiner=cluster.hosts[1])
    donor = bootstrap_with_data(cluster, pods.settings(pods.donor, RSYNC_PROXY=PROXY))
    joiner = cluster.node(pods.settings(pods.joiner))
    with pods.sidecars(IN_PODS) as (connecting, _):
        joiner.join(donor)
        connecting.wait_for(rf"-> {pods.joiner.name}:4444 ended: .* with CN={pods.joiner.name}")
    assert_equal_and_working(donor, joiner)


def test_a_joiner_with_another_name_gets_no_data(pair: Pair, cluster: Cluster) -> None:
    wrong = replace(pair, own=[self_signed(pair.donor.name), self_signed("other.my.cluster")])
    donor = bootstrap_with_data(cluster, pair.settings(pair.donor, RSYNC_PROXY=PROXY))
    joiner = cluster.node(pair.settings(pair.joiner))
    with own_name_at(pair.joiner, LOOPBACK), wrong.sidecars(ON_HOSTS) as (connecting, _):
        joiner.start_joining(donor)
        connecting.wait_for(f"WARNING .* presented CN=other.my.cluster, expected {pair.joiner.name}")
        joiner.wait_until_ended(60)
    assert donor.running
