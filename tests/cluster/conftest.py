"""Real MariaDB Galera nodes for the tests of this directory; their marker is `cluster`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab import programs
from lab.hosts import Host, can_make_namespaces, hosts
from lab.sample import fill
from lab.site import Site, open_site

pytest.register_assert_rewrite("tests.cluster.harness")

from tests.cluster.harness import Cluster, Pair  # noqa: E402 - pytest must know of it first, to explain its asserts

_HERE = Path(__file__).parent
_MOST_NODES = 3
_MEGABYTES = 15  # of rows, besides what a fresh node has


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: needs MariaDB with Galera; starts real nodes, seconds each")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.cluster)


def unavailable(reason: str) -> None:
    """End the test: skipped on a person's machine, failed where everything was meant to be installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """The servers' program, user and template."""
    absent = programs.missing()
    if absent:
        unavailable(f"not installed: {', '.join(absent)}; {programs.INSTALL_HINT}")
    with open_site() as opened:
        yield opened


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[Host, ...]]:
    """Hosts for the nodes of one module's tests, which run one after another."""
    with hosts(_MOST_NODES) as made:
        yield made


@pytest.fixture
def cluster(site: Site, network: tuple[Host, ...]) -> Iterator[Cluster]:
    """A cluster without nodes yet; what the test adds is removed after it."""
    with ExitStack() as cleanup:
        yield Cluster(site, f"c{secrets.token_hex(3)}", network, cleanup)


@pytest.fixture
def named_hosts(network: tuple[Host, ...]) -> tuple[Host, ...]:
    """The hosts, for a test that needs them to have names, IPv6 addresses and a network to listen on."""
    if not can_make_namespaces():
        pytest.skip("needs network namespaces: run the tests as root, outside of a confined container")
    return network


@pytest.fixture
def pair(cluster: Cluster, named_hosts: tuple[Host, ...]) -> Pair:
    """A donor with data, and a joiner that isn't started, both on hosts with names."""
    first, second = cluster.self_signed()
    donor, joiner = cluster.node(first), cluster.node(second)
    donor.bootstrap()
    fill(donor, _MEGABYTES)
    return donor, joiner


@pytest.fixture
def tcpdump(named_hosts: tuple[Host, ...]) -> None:
    """For a test that captures what passes a host's network."""
    if not programs.installed("tcpdump"):
        unavailable("not installed: tcpdump; on Debian: apt-get install tcpdump, on RHEL: dnf install tcpdump")
