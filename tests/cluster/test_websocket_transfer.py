"""A node joins where only HTTP passes: inside a WebSocket, through a real proxy that ends the outer TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.certificates import authority, issued
from lab.hosts import Host
from lab.ports import free_port
from pytunnel.transport.endpoint import TcpEndpoint
from tests.cluster.harness import Cluster, assert_joined, bootstrap_with_data, infos, with_sst
from tests.support.webproxies import EDGES, edge


@pytest.mark.parametrize("program", EDGES)
def test_a_node_takes_its_state_through_a_proxy(cluster: Cluster, tmp_path: Path, program: str) -> None:
    first, second = cluster.self_signed()
    proxy = cluster.hosts[2]
    ca = authority("Edge CA")
    own = issued(ca, proxy.name, names=[proxy.name] if proxy.namespace else [], addresses=[proxy.address])
    outer_ca = cluster.combined(own, [ca])["tca"]
    web = TcpEndpoint(second.host.address, _port_on(second.host))
    path = f"/sst/{second.host.name}"
    joiner = cluster.node(with_sst(second, {"listen": f"ws://{web}{path}"}))
    with edge(program, tmp_path / program, own, path, web, at=proxy) as outer:
        way = {"transport": outer.url("/sst/{host}"), "outer-ca": outer_ca}
        donor = bootstrap_with_data(cluster, with_sst(first, way))
        joiner.join(donor)
        assert_joined(donor, joiner)
    assert any(f"sending to {outer.url(path)}, where {second.host.name} is expected" in text for text in infos(donor))
    assert any(f"listening at {web}, in WebSockets ({path})," in text for text in infos(joiner))


def _port_on(host: Host) -> int:
    return 8080 if host.namespace else free_port(host.address)
