"""What `certs verify` says of a CA file, and of revocation lists in it."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from lab import certificates as lab
from pytunnel.certs.bundling import bundle_pem, collect, collect_lists
from pytunnel.certs.checking import Subject, check_ca, check_certificate
from pytunnel.certs.findings import Finding, Level
from pytunnel.certs.making import Identity, Validity, make_ca, make_key, valid_for
from pytunnel.tls.credentials import read_lists
from tests.support.findings import CA, DAY, NODE, NOW, explained, only


def ca_file(folder: Path, text: str) -> Path:
    path = folder / "ca.crt"
    path.write_text(text)
    return path


def test_a_ca_file_is_ok_and_says_whom_it_trusts(tmp_path: Path) -> None:
    trusted, findings = check_ca(ca_file(tmp_path, CA.certificate_pem + NODE.certificate_pem))
    assert trusted == [CA.certificate, NODE.certificate]
    assert only(findings) == (Level.OK, "trusts /CN=Test CA, /CN=node1.my.cluster")


def test_a_ca_directory_is_read(tmp_path: Path) -> None:
    ca_file(tmp_path, CA.certificate_pem)
    assert check_ca(tmp_path)[0] == [CA.certificate]


def test_a_ca_that_has_expired_or_soon_will_is_a_warning(tmp_path: Path) -> None:
    old = make_ca("Old CA", Validity(NOW - 9 * DAY, NOW - DAY), make_key())
    soon = make_ca("Soon CA", valid_for(20), make_key())
    _, findings = check_ca(ca_file(tmp_path, old.certificate_pem + CA.certificate_pem + soon.certificate_pem))
    assert [finding.level for finding in findings] == [Level.WARNING, Level.WARNING]
    assert "/CN=Old CA" in findings[0].text
    assert "/CN=Soon CA expires in 19 days" in findings[1].text


def test_a_key_in_the_ca_file_is_a_warning(tmp_path: Path) -> None:
    level, text = only(check_ca(ca_file(tmp_path, CA.combined_pem))[1])
    assert (level, "it holds a private key, which then lies on every node" in text) == (Level.WARNING, True)


def test_a_ca_file_that_is_not_there_is_a_fault_and_trusts_nobody(tmp_path: Path) -> None:
    trusted, findings = check_ca(tmp_path / "none")
    assert trusted == []
    assert only(findings)[0] is Level.FAULT


# Revocation lists.


def list_of(issuer: Identity, *revoked: Identity, start: datetime.datetime = NOW - DAY) -> str:
    """A revocation list, for 30 days from `start`."""
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    issuing = lab.Identity(issuer.certificate, issuer.key)
    gone = [replace(issuing, certificate=item.certificate) for item in revoked]
    return lab.revoking(issuing, gone, start=start).decode()


def verify_with(folder: Path, ca_text: str) -> list[Finding]:
    """What is found of a node of CA's where the CA file has this text."""
    ca = ca_file(folder, ca_text)
    trusted, findings = check_ca(ca)
    node = folder / "node.crt"
    node.write_text(NODE.certificate_pem)
    return explained(findings + check_certificate(Subject(node, trusted, revoked=read_lists(ca))))


def test_a_revocation_list_that_does_not_name_the_node_is_ok(tmp_path: Path) -> None:
    first, second = verify_with(tmp_path, CA.certificate_pem + list_of(CA))
    assert {first.level, second.level} == {Level.OK}
    assert first.text == "trusts /CN=Test CA; with revocation lists of /CN=Test CA"


def test_a_revoked_certificate_is_a_fault(tmp_path: Path) -> None:
    found = worst_of(verify_with(tmp_path, CA.certificate_pem + list_of(CA, NODE)))
    assert found.text.endswith(f"it is revoked (serial number {NODE.certificate.serial_number:X})")


def test_a_revocation_list_of_another_ca_alone_is_a_fault(tmp_path: Path) -> None:
    other = make_ca("Other CA", valid_for(3000), make_key())
    found = worst_of(verify_with(tmp_path, CA.certificate_pem + other.certificate_pem + list_of(other)))
    assert "no revocation list (CRL) of its issuer is among ours" in found.text


def test_a_revocation_list_whose_time_is_over_is_a_fault_of_all(tmp_path: Path) -> None:
    ca, node = verify_with(tmp_path, CA.certificate_pem + list_of(CA, start=NOW - 40 * DAY))
    assert (ca.level, node.level) == (Level.FAULT, Level.FAULT)
    assert "the revocation list of /CN=Test CA ended on" in ca.text
    assert "the revocation list (CRL) of its issuer has expired" in node.text


def test_a_bundle_keeps_the_newest_revocation_list_of_each_ca(tmp_path: Path) -> None:
    old, new = list_of(CA, start=NOW - 2 * DAY), list_of(CA, NODE)
    files = [tmp_path / name for name in ("old.crt", "new.crl", "older.crl")]
    for file, text in zip(files, (CA.certificate_pem + old, new, old), strict=True):
        file.write_text(text)
    text = bundle_pem(collect(files), collect_lists(files))
    assert text == CA.certificate_pem + new


def worst_of(findings: list[Finding]) -> Finding:
    return max(findings, key=lambda finding: finding.level)
