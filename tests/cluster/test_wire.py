"""What can be read on the network while a node joins."""

from __future__ import annotations

import pytest

from lab.mariadb import NodeSettings
from lab.optionfile import Options
from lab.sample import MARKER
from tests.cluster.harness import Cluster, bootstrap_with_data, transfer_captured


@pytest.mark.usefixtures("tcpdump")
def test_rows_are_seen_when_the_servers_own_rsync_method_carries_them(cluster: Cluster) -> None:
    # This shows that the capture finds what is there to be found: the next test relies on it.
    plain: Options = {"wsrep-sst-method": "rsync"}
    first, second = (NodeSettings(host=host, server=plain) for host in cluster.hosts[:2])
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    with transfer_captured(joiner) as capture:
        joiner.join(donor)
    assert capture.contains(MARKER)


@pytest.mark.usefixtures("tcpdump")
def test_no_row_is_seen_through_the_tunnel(cluster: Cluster) -> None:
    first, second = cluster.self_signed()
    donor = bootstrap_with_data(cluster, first)
    joiner = cluster.node(second)
    with transfer_captured(joiner) as capture:
        joiner.join(donor)
    assert not capture.contains(MARKER)
    size = sum(file.stat().st_size for file in donor.datadir.glob("ibdata*"))
    assert capture.size() > size, "the capture must hold the transfer"
