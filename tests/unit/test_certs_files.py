"""What is read from certificate files: bundles, CAs that issue, and the description of a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import certificates as lab
from pytunnel.certs.authority import is_authority, read_authority
from pytunnel.certs.bundling import bundle_pem, collect
from pytunnel.certs.errors import CertsError
from pytunnel.certs.making import Identity, Validity, issue, make_ca, make_key, make_self_signed, valid_for
from pytunnel.certs.names import parse_names
from pytunnel.certs.showing import describe_file
from pytunnel.tls.errors import CredentialsError

CA = make_ca("Test CA", valid_for(3000), make_key())
NODES = [make_self_signed(parse_names([f"node{number}"]), valid_for(500), make_key()) for number in range(3)]


def stored(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def shown(path: Path) -> dict[str, str]:
    """The lines of a description by their label; those of the last certificate where there are several."""
    lines = [line[2:] for line in describe_file(path) if line.startswith("  ")]
    return {line[:12].strip(): line[13:] for line in lines}


def test_a_bundle_has_the_certificates_in_the_files_order_without_their_keys(tmp_path: Path) -> None:
    files = [stored(tmp_path / str(number), node.combined_pem) for number, node in enumerate(NODES)]
    text = bundle_pem(collect(files))
    assert text == "".join(node.certificate_pem for node in NODES)
    assert "PRIVATE" not in text


def test_certificates_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    bundle = stored(tmp_path / "bundle", bundle_pem(node.certificate for node in NODES))
    gone = stored(tmp_path / "gone", NODES[1].certificate_pem)
    assert collect([bundle], without=[gone]) == [NODES[0].certificate, NODES[2].certificate]


def test_a_bundle_with_nothing_in_it_is_refused(tmp_path: Path) -> None:
    file = stored(tmp_path / "a", NODES[0].certificate_pem)
    with pytest.raises(CertsError, match="nobody would be trusted"):
        collect([file], without=[file])


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"a\.key holds no certificate; is it the file of a key"):
        collect([stored(tmp_path / "a.key", CA.key_pem)])


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(NODES), min_size=1), min_size=1, max_size=4))
def test_each_certificate_is_in_a_bundle_once_and_bundling_again_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[Identity]]
) -> None:
    folder = tmp_path_factory.mktemp("bundle")
    files = [
        stored(folder / str(number), bundle_pem(node.certificate for node in nodes))
        for number, nodes in enumerate(contents)
    ]
    found = collect(files)
    assert len(found) == len(set(found))
    assert set(found) == {node.certificate for nodes in contents for node in nodes}
    assert collect([stored(folder / "bundle", bundle_pem(found))]) == found


def authority_files(folder: Path, certificate: str, key: str) -> tuple[Path, Path]:
    return stored(folder / "ca.crt", certificate), stored(folder / "ca.key", key)


def test_a_ca_is_read_from_its_files(tmp_path: Path) -> None:
    read = read_authority(*authority_files(tmp_path, CA.certificate_pem, CA.key_pem))
    assert read.certificate == CA.certificate


def test_a_ca_s_certificate_with_another_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="does not belong to the certificate /CN=Test CA"):
        read_authority(*authority_files(tmp_path, CA.certificate_pem, NODES[0].key_pem))


def test_a_node_can_t_be_used_as_a_ca(tmp_path: Path) -> None:
    with pytest.raises(CertsError, match=r"/CN=node0 in .* is not allowed to issue certificates"):
        read_authority(*authority_files(tmp_path, NODES[0].certificate_pem, NODES[0].key_pem))


def test_an_expired_ca_can_t_issue(tmp_path: Path) -> None:
    day = valid_for(1).end - valid_for(1).begin
    begin = valid_for(1).begin - 9 * day
    old = make_ca("Old CA", Validity(begin, begin + day), make_key())
    with pytest.raises(CredentialsError, match="expired on"):
        read_authority(*authority_files(tmp_path, old.certificate_pem, old.key_pem))


def test_only_what_says_so_is_an_authority() -> None:
    assert is_authority(CA.certificate)
    assert is_authority(lab.self_signed("node").certificate)
    assert not is_authority(NODES[0].certificate)


def test_a_description_tells_what_a_person_asks_for(tmp_path: Path) -> None:
    node = issue(CA, parse_names(["node1.my.cluster", "node1"], ["10.0.0.1"]), valid_for(500), make_key(2048))
    lines = shown(stored(tmp_path / "node1.crt", node.certificate_pem))
    assert lines["subject"] == "/CN=node1.my.cluster"
    assert lines["names"] == "DNS:node1.my.cluster, DNS:node1, IP:10.0.0.1"
    assert lines["issuer"] == "/CN=Test CA"
    assert lines["valid"].endswith("UTC, 499 days left")
    assert lines["key"] == "RSA, 2048 bits"
    assert lines["signature"] == "with SHA256"
    assert lines["CA"] == "no"
    assert lines["may be used"] == "as server, as client"
    assert lines["key may"] == "sign, encipher keys"
    assert int(lines["serial"], 16) == node.certificate.serial_number


def test_a_ca_s_description(tmp_path: Path) -> None:
    lines = shown(stored(tmp_path / "ca.crt", CA.certificate_pem))
    assert lines["issuer"] == "/CN=Test CA (self-signed)"
    assert (lines["CA"], lines["may be used"]) == ("yes", "for everything")
    assert lines["key may"] == "issue certificates, revoke certificates"


def test_a_certificate_without_extensions_is_described(tmp_path: Path) -> None:
    bare = lab.self_signed("node")
    lines = shown(stored(tmp_path / "node.crt", bare.certificate_pem().decode()))
    assert lines["names"] == "none besides the common name"
    assert (lines["CA"], lines["key may"]) == ("yes", "do everything")


def test_each_certificate_of_a_file_has_its_number(tmp_path: Path) -> None:
    path = stored(tmp_path / "bundle", bundle_pem(node.certificate for node in NODES))
    heads = [line for line in describe_file(path) if not line.startswith(" ")]
    assert heads == [f"{path}: certificate {number} of 3" for number in (1, 2, 3)]


@pytest.mark.parametrize("fits", [True, False])
def test_a_key_in_the_file_is_told_and_whether_it_fits(tmp_path: Path, fits: bool) -> None:
    key = NODES[0].key_pem if fits else NODES[1].key_pem
    *_, last = describe_file(stored(tmp_path / "node.pem", key + NODES[0].certificate_pem))
    assert last.endswith("private key of certificate 1") == fits
    assert ("does not belong to the certificate" in last) != fits


def test_an_expired_certificate_is_described_as_such(tmp_path: Path) -> None:
    old = lab.expired(lab.authority("CA"), "node")
    assert shown(stored(tmp_path / "old.crt", old.certificate_pem().decode()))["valid"].endswith("UTC, expired")


def test_a_certificate_that_breaks_x509_s_rules_is_described_as_far_as_it_goes(tmp_path: Path) -> None:
    key = make_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    validity = valid_for(1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, validity.begin, validity.end)
    broken = x509.UnrecognizedExtension(ExtensionOID.KEY_USAGE, b"nonsense")
    made = builder.add_extension(broken, critical=False).sign(key, hashes.SHA256())
    lines = list(describe_file(stored(tmp_path / "broken.crt", Identity(made, key).certificate_pem)))
    assert any("/CN=node" in line for line in lines)
    assert any("breaks the rules of X.509" in line for line in lines)
