"""`pytunnel doctor --peer`: what another node presents, whether each trusts the other, and that nothing is sent."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from lab.certificates import Identity, authority, bundle_pem, issued, self_signed, write_secret
from lab.optionfile import option_file
from lab.ports import free_port
from pytunnel.cli import main as cli
from pytunnel.tls.settings import TlsSettings
from tests.support.credentials import OURSELVES
from tests.support.doctor import CA, HOST, Doctor, Node
from tests.support.programs import needs
from tests.support.sst import POSITION, PlayedServer
from tests.support.tunnels import LIMIT, started, tunnel

pytestmark = needs("my_print_defaults", "rsync", "openssl")


def listener(node: Node, own: Identity, trusted: Identity) -> TlsSettings:
    """The files of another node."""
    folder = node.root / "peer"
    folder.mkdir()
    certificate = write_secret(folder / "node.pem", own.combined_pem(), OURSELVES)
    return TlsSettings(certificate=certificate, ca=write_secret(folder / "ca.crt", bundle_pem([trusted]), OURSELVES))


def test_a_peer_that_listens_is_described_and_trusted_and_nothing_is_sent(node: Node, doctor: Doctor) -> None:
    settings = listener(node, issued(CA, "node2.my.cluster", addresses=[HOST]), CA)
    with socket.create_server((HOST, 0)) as target:
        target.settimeout(LIMIT)
        with tunnel("listen", settings, f"{HOST}:0", f"{HOST}:{target.getsockname()[1]}") as listening:
            report = doctor("--peer", f"{HOST}:{listening.port}")
            carried, _ = target.accept()
            with carried:
                carried.settimeout(LIMIT)
                assert received(carried) == b""
    assert report.of("peer: trust").status == "ok"
    assert "TLSv1.3" in report.of("peer: TLS").text
    shown = report.of("peer: certificate").text
    assert all(word in shown for word in ("CN=node2.my.cluster", "Test Authority", "364 days"))
    assert report.of("peer: its answer").status == "ok"


def received(stream: socket.socket) -> bytes:
    """All that comes until the other end closes or breaks off."""
    data = b""
    try:
        while piece := stream.recv(4096):
            data += piece
    except ConnectionResetError:
        pass
    return data


def test_a_peer_of_another_name_is_described_although_it_is_not_trusted(node: Node, doctor: Doctor) -> None:
    settings = listener(node, issued(CA, "evil.my.cluster"), CA)
    with tunnel("listen", settings, f"{HOST}:0", "exec:cat") as listening:
        report = doctor("--peer", f"{HOST}:{listening.port}")
    trust = report.of("peer: trust")
    assert (trust.status, "presented CN=evil.my.cluster" in trust.text) == ("fault", True)
    assert "Test Authority" in report.of("peer: certificate").text


def test_a_peer_that_does_not_trust_this_node_is_told(node: Node, doctor: Doctor) -> None:
    settings = listener(node, issued(CA, "node2", addresses=[HOST]), authority("Other"))
    with tunnel("listen", settings, f"{HOST}:0", "exec:cat") as listening:
        report = doctor("--peer", f"{HOST}:{listening.port}")
    assert report.of("peer: trust").status == "ok"
    answer = report.of("peer: its answer")
    assert (answer.status, "did not accept our certificate" in answer.text) == ("fault", True)


@pytest.mark.parametrize(("version", "shown"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_openssl_s_server_is_a_peer_like_any_other(node: Node, doctor: Doctor, version: str, shown: str) -> None:
    settings = listener(node, issued(CA, "node2", addresses=[HOST]), CA)
    command = ["openssl", "s_server", "-accept", f"{HOST}:0", "-cert", str(settings.certificate), version]
    command += ["-CAfile", str(settings.ca), "-Verify", "1", "-verify_return_error"]
    with started(["sh", "-c", 'exec "$@" >&2', "sh", *command], stdin=subprocess.PIPE) as peer:
        port = peer.wait_for(rf"ACCEPT {HOST}:(\d+)")[1]
        report = doctor("--peer", f"{HOST}:{port}")
    assert (report.of("peer: trust").status, shown in report.of("peer: TLS").text) == ("ok", True)
    assert report.of("peer: its answer").status == "ok"


def test_a_joiner_that_waits_for_its_donor_goes_on_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identities = [self_signed("localhost"), self_signed("localhost")]
    donor, joiner = (
        PlayedServer(tmp_path / name).use(own, identities)
        for name, own in zip(("donor", "joiner"), identities, strict=True)
    )
    (tmp_path / "my.cnf").write_text(
        option_file({"mysqld": {"wsrep-sst-method": "rsync_tunnel"}, "sst": donor.options})
    )
    joining = joiner.start_joiner()
    ready = joining.ready()
    cli.run(["doctor", "--defaults-file", str(tmp_path / "my.cnf"), "--peer", f"{HOST}:{ready.port}", "--json"])
    rows = {row["check"]: row["status"] for row in json.loads(capsys.readouterr().out)}
    assert (rows["peer: trust"], rows["peer: its answer"]) == ("ok", "ok")
    donating = donor.start_donor(ready)
    donating.expect("flush tables")
    donor.flush()
    donating.expect("continue")
    donating.expect(f"done {POSITION}")
    joining.expect(POSITION)
    assert (donating.end(), joining.end()) == (0, 0)


def test_a_peer_that_is_not_there_is_a_fault(node: Node, doctor: Doctor) -> None:
    row = doctor("--peer", f"{HOST}:{free_port(HOST)}").of("peer: TLS")
    assert (row.status, "can't be reached" in row.text) == ("fault", True)


def test_a_peer_that_can_not_be_a_place_is_refused(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--peer", "node2:port"]) == 2
    assert "expected HOST, HOST:PORT" in capsys.readouterr().err


def test_without_a_certificate_of_its_own_this_node_dials_nobody(node: Node, doctor: Doctor) -> None:
    (node.root / "tls" / "node.key").unlink()
    assert doctor("--peer", HOST).of("peer").status == "fault"
