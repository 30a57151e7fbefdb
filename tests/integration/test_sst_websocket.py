"""A transfer between two played servers inside WebSockets: which way it takes, and who is expected all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.certificates import authority, issued, self_signed
from lab.ports import free_port
from pytunnel.transport.endpoint import TcpEndpoint
from tests.support.programs import needs
from tests.support.sst import PlayedServer, Run, finish
from tests.support.webproxies import EDGES, HOST, edge, forward_proxy

pytestmark = needs("rsync", "my_print_defaults")

NODE = "localhost"
PATH = f"/sst/{NODE}"
Pair = tuple[PlayedServer, PlayedServer]


@pytest.fixture(name="pair")
def fixture_pair(tmp_path: Path) -> Pair:
    """A donor and a joiner that trust each other; the joiner is localhost and awaits WebSockets."""
    donor_own, joiner_own = self_signed("donor.my.cluster"), self_signed(NODE)
    donor = PlayedServer(tmp_path / "donor").use(donor_own, [donor_own, joiner_own])
    joiner = PlayedServer(tmp_path / "joiner", host=NODE).use(joiner_own, [donor_own, joiner_own])
    joiner.options["listen"] = f"ws://127.0.0.1:{free_port('127.0.0.1')}{PATH}"
    return donor, joiner


@pytest.fixture(name="cleanup")
def fixture_cleanup() -> Iterator[ExitStack]:
    with ExitStack() as cleanup:
        yield cleanup


def port_of(joiner: PlayedServer) -> int:
    return int(joiner.options["listen"].partition("127.0.0.1:")[2].partition("/")[0])


def transfer(pair: Pair) -> tuple[str, str]:
    """A full transfer, which must end well; both logs."""
    donor, joiner = pair
    (donor.datadir / "shop").mkdir()
    (donor.datadir / "shop" / "orders.ibd").write_text("rows")
    joining = joiner.start_joiner()
    donating = donor.start_donor(joining.ready())
    complete(pair, donating, joining)
    assert (joiner.datadir / "shop" / "orders.ibd").read_text() == "rows"
    return donating.log, joining.log


def complete(pair: Pair, donating: Run, joining: Run) -> None:
    """Play both servers until the transfer has ended well."""
    donating.expect("flush tables")
    pair[0].flush()
    finish(donating, joining)
    assert [server.remains() for server in pair] == [[], []]


@pytest.mark.parametrize("program", EDGES)
def test_a_snapshot_goes_through_a_proxy(pair: Pair, tmp_path: Path, cleanup: ExitStack, program: str) -> None:
    donor, joiner = pair
    ca = authority("Edge CA")
    (tmp_path / "edge-ca.pem").write_bytes(ca.certificate_pem())
    own = issued(ca, HOST, names=[HOST])
    node = TcpEndpoint("127.0.0.1", port_of(joiner))
    outer = cleanup.enter_context(edge(program, tmp_path / "edge", own, PATH, node))
    donor.options |= {"transport": outer.url("/sst/{host}"), "outer-ca": str(tmp_path / "edge-ca.pem")}
    donating, joining = transfer(pair)
    assert f"sending to wss://{HOST}:{outer.port}{PATH}, where {NODE} is expected" in donating
    assert f"in WebSockets ({PATH})," in joining


def test_the_joiner_s_host_may_stand_in_the_url_s_host(pair: Pair) -> None:
    donor, joiner = pair
    donor.options["transport"] = f"ws://{{host}}:{port_of(joiner)}{PATH}"
    transfer(pair)


def test_a_token_may_be_demanded_of_the_donor(pair: Pair) -> None:
    donor, joiner = pair
    donor.options["transport"] = f"ws://127.0.0.1:{port_of(joiner)}/sst/{{host}}"
    for server in pair:
        server.options["header"] = "Authorization: Bearer hunter2"
    assert not [log for log in transfer(pair) if "hunter2" in log]


@needs("tinyproxy")
def test_a_donor_reaches_a_joiner_s_tcp_port_through_an_http_proxy(pair: Pair, tmp_path: Path) -> None:
    donor, joiner = pair
    del joiner.options["listen"]
    joining = joiner.start_joiner()
    ready = joining.ready()
    with forward_proxy(tmp_path / "proxy", [ready.port]) as proxy:
        donor.options["proxy"] = f"http://127.0.0.1:{proxy}"
        complete(pair, donor.start_donor(ready), joining)
    assert f"CONNECT {NODE}:{ready.port}" in (tmp_path / "proxy" / "log").read_text()


def refused(pair: Pair, expected: str) -> None:
    """The donor fails with one error that holds `expected`, and the joiner, cancelled, leaves nothing."""
    donor, joiner = pair
    joining = joiner.start_joiner()
    donating = donor.start_donor(joining.ready())
    assert donating.end() != 0
    (error,) = donating.errors()
    assert expected in error
    joining.process.terminate()
    assert joining.end() != 0
    assert [server.remains() for server in pair] == [[], []]


def test_a_donor_that_does_not_know_the_way_is_told_that_nothing_listens(pair: Pair) -> None:
    refused(pair, "can't be reached")


def test_the_name_of_the_joiner_counts_and_not_that_of_the_url(pair: Pair, tmp_path: Path) -> None:
    donor, joiner = pair
    other = self_signed("other.my.cluster")
    bundle = Path(donor.options["tca"]).read_bytes()
    for server in pair:
        Path(server.options["tca"]).write_bytes(bundle + other.certificate_pem())
    joiner.options["sockopt"] = "commonname=other.my.cluster"  # or it would refuse its own certificate
    Path(joiner.options["tcert"]).write_bytes(other.combined_pem())
    donor.options["transport"] = f"ws://127.0.0.1:{port_of(joiner)}{PATH}"
    refused(pair, f"presented CN=other.my.cluster, expected {NODE}")


def test_a_path_that_the_joiner_does_not_serve_is_named(pair: Pair) -> None:
    donor, joiner = pair
    donor.options["transport"] = f"ws://127.0.0.1:{port_of(joiner)}/other"
    refused(pair, f"127.0.0.1:{port_of(joiner)} answered 404 Not Found to the WebSocket request for /other")


def test_a_joiner_that_would_end_the_outer_tls_itself_is_refused(pair: Pair) -> None:
    pair[1].options["listen"] = f"wss://127.0.0.1:443{PATH}"
    said_at_once(pair[1].start_joiner(), "listen in [sst]: ")


def test_a_donor_s_url_that_is_wrong_is_refused(pair: Pair) -> None:
    pair[0].options["transport"] = "wss://edge.example/{node}"
    said_at_once(pair[0].start("donor", f"{NODE}:4444/rsync_tunnel_sst"), "transport in [sst]: ")


def said_at_once(run: Run, beginning: str) -> None:
    assert run.line() == ""
    assert run.end() == 22
    (error,) = run.errors()
    assert error.startswith(beginning)
