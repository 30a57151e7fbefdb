"""What doctor says of the certificates of each place that uses some."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from lab.certificates import Identity, authority, bundle_pem, expired, issued, self_signed
from pytunnel.certs.findings import Level
from pytunnel.doctor.certificates import (
    Use,
    check_revocation_list,
    examine_certificates,
    in_datadir,
    merge,
    server_uses,
)
from pytunnel.doctor.findings import Finding
from pytunnel.tls.settings import TlsSettings
from tests.support.options import options

# A little later than all certificates of this file begin, however long the tests before it take.
NOW = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
CA = authority("Test Authority")
NODE = issued(CA, "node1.my.cluster")


def written(folder: Path, own: Identity, trusted: Identity, key: Identity | None = None) -> Use:
    """A use of a certificate file, a key file and a CA file."""
    files = {
        "node.crt": own.certificate_pem(),
        "node.key": (key or own).key_pem(),
        "ca.crt": trusted.certificate_pem(),
    }
    for name, content in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
    certificate, private, ca = (folder / name for name in files)
    return Use("SST", TlsSettings(certificate=certificate, key=private, ca=ca))


def worst(found: list[Finding]) -> Finding:
    return max(found, key=lambda finding: finding.level)


def revocation_list(days: int) -> x509.CertificateRevocationList:
    """A list of CA that ends in so many days."""
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=CA.certificate.subject,
        last_update=NOW - datetime.timedelta(days=100),
        next_update=NOW + datetime.timedelta(days=days),
    )
    return builder.sign(CA.key, hashes.SHA256())


def test_the_server_s_and_the_provider_s_files_are_uses() -> None:
    mysqld = options(
        "ssl-cert=/c", "ssl-key=/k", "wsrep_provider_options=socket.ssl_cert=/pc;socket.ssl_key=/pk;socket.ssl_ca=/pa"
    )
    client, replication = server_uses(mysqld)
    assert (client.title, client.tls.certificate, client.judged) == ("client", Path("/c"), False)
    assert (replication.title, replication.tls.ca, replication.judged) == ("replication", Path("/pa"), True)


@pytest.mark.parametrize("text", ["", "wsrep_provider_options=socket.ssl=no;socket.ssl_cert=/c;socket.ssl_key=/k"])
def test_what_uses_no_certificate_is_no_use(text: str) -> None:
    assert server_uses(options(text) if text else options()) == []


def test_uses_of_the_same_files_are_one() -> None:
    tls = TlsSettings(certificate=Path("/c"), ca=Path("/a"))
    uses = [Use("client", tls, judged=False), Use("SST", replace(tls, ciphers="X")), Use("replication", TlsSettings())]
    assert [(use.title, use.judged) for use in merge(uses)] == [("client, SST", True), ("replication", True)]


def test_relative_paths_are_relative_to_the_datadir() -> None:
    tls = in_datadir(TlsSettings(certificate=Path("c.pem"), ca=Path("/a"), revoked=(Path("r"),)), Path("/db"))
    assert (tls.certificate, tls.key, tls.ca, tls.revoked) == (Path("/db/c.pem"), None, Path("/a"), (Path("/db/r"),))


def test_a_good_certificate_tells_its_names_issuer_and_days(tmp_path: Path) -> None:
    found = examine_certificates(written(tmp_path, NODE, CA), NOW)
    assert {finding.level for finding in found} == {Level.OK}
    text = next(finding.text for finding in found if finding.check == "SST certificate")
    assert "CN=node1.my.cluster" in text
    assert "Test Authority" in text
    assert "364 days" in text


def test_a_foreign_key_is_a_fault(tmp_path: Path) -> None:
    found = worst(examine_certificates(written(tmp_path, NODE, CA, key=CA), NOW))
    assert (found.level, "does not belong to the certificate" in found.text) == (Level.FAULT, True)


def test_an_expired_certificate_is_a_fault(tmp_path: Path) -> None:
    found = worst(examine_certificates(written(tmp_path, expired(CA, "node1"), CA), NOW))
    assert (found.level, "expired" in found.text, "renew" in found.advice) == (Level.FAULT, True, True)


@pytest.mark.parametrize(("days", "level"), [(29, Level.WARNING), (31, Level.OK)])
def test_a_certificate_is_warned_of_a_month_before_its_end(tmp_path: Path, days: int, level: Level) -> None:
    own = issued(CA, "node1", end=NOW + datetime.timedelta(days=days, hours=1))
    found = next(item for item in examine_certificates(written(tmp_path, own, CA), NOW) if "certificate" in item.check)
    assert (found.level, f"{days} days" in found.text) == (level, True)


def test_a_certificate_of_another_ca_is_a_fault(tmp_path: Path) -> None:
    found = worst(examine_certificates(written(tmp_path, NODE, authority("Other")), NOW))
    assert (found.level, "not in our CA file" in found.text) == (Level.FAULT, True)


def test_nobody_judges_the_client_s_certificate_by_the_server_s_own_ca(tmp_path: Path) -> None:
    use = replace(written(tmp_path, NODE, authority("Other")), judged=False)
    assert worst(examine_certificates(use, NOW)).level is Level.OK


def test_a_self_signed_certificate_that_is_not_in_the_own_bundle_is_a_warning(tmp_path: Path) -> None:
    found = worst(examine_certificates(written(tmp_path, self_signed("node1"), self_signed("node2")), NOW))
    assert (found.level, "not in this node's own CA file" in found.text) == (Level.WARNING, True)


def test_a_bundle_with_an_expired_certificate_is_a_warning(tmp_path: Path) -> None:
    use = written(tmp_path, NODE, CA)
    assert use.tls.ca is not None
    use.tls.ca.write_bytes(bundle_pem([CA, expired(CA, "node2.my.cluster")]))
    found = worst(examine_certificates(use, NOW))
    assert (found.level, found.check, "node2" in found.text) == (Level.WARNING, "SST CA", True)


def test_a_missing_file_is_a_fault_that_names_it(tmp_path: Path) -> None:
    use = written(tmp_path, NODE, CA)
    (tmp_path / "node.crt").unlink()
    found = worst(examine_certificates(use, NOW))
    assert (found.level, f"{tmp_path}/node.crt does not exist" in found.text) == (Level.FAULT, True)


def test_a_pinned_peer_s_certificate_is_looked_at_too(tmp_path: Path) -> None:
    peer = tmp_path / "peer.crt"
    peer.write_bytes(expired(CA, "peer").certificate_pem())
    use = replace(written(tmp_path, NODE, CA), judged=False)
    use = replace(use, tls=replace(use.tls, ca=None, peer_certificate=peer))
    found = worst(examine_certificates(use, NOW))
    assert (found.level, found.check) == (Level.FAULT, "SST peer")


def test_a_missing_revocation_list_is_a_fault(tmp_path: Path) -> None:
    use = written(tmp_path, NODE, CA)
    use = replace(use, tls=replace(use.tls, revoked=(tmp_path / "missing.crl",)))
    found = worst(examine_certificates(use, NOW))
    assert (found.level, found.check) == (Level.FAULT, "SST CRL")


@pytest.mark.parametrize(("days", "level"), [(1, Level.OK), (-1, Level.FAULT)])
def test_a_revocation_list_that_has_ended_stops_everybody(days: int, level: Level) -> None:
    assert check_revocation_list("CRL", revocation_list(days), NOW).level is level


def test_a_revocation_list_of_today_is_read_from_its_file(tmp_path: Path) -> None:
    use = written(tmp_path, NODE, CA)
    crl = tmp_path / "ca.crl"
    crl.write_bytes(revocation_list(7).public_bytes(serialization.Encoding.PEM))
    use = replace(use, tls=replace(use.tls, revoked=(crl,)))
    assert [finding.level for finding in examine_certificates(use, NOW) if finding.check == "SST CRL"] == [Level.OK]
