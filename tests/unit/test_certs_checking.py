"""What `certs verify` says of a certificate, and why."""

from __future__ import annotations

import datetime
import itertools
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import crypto

from lab import certificates as lab
from pytunnel.certs.checking import Announced, Subject, check_ca, check_certificate
from pytunnel.certs.findings import Finding, Level, worst
from pytunnel.certs.making import Identity, Validity, issue, make_ca, make_key, make_self_signed, valid_for
from pytunnel.certs.names import parse_names
from pytunnel.certs.showing import describe_file
from pytunnel.certs.storing import NewFile, write_files
from pytunnel.system import logs
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.identity import ExpectedPeer
from tests.support.findings import CA, DAY, NAMES, NODE, NOW, explained, only


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def bare(subject: x509.Name, issuer: Identity, *extensions: x509.ExtensionType) -> Identity:
    """A certificate of `issuer` with these extensions alone, as a hand-written recipe makes it."""
    key = make_key()
    builder = x509.CertificateBuilder(
        issuer.certificate.subject, subject, key.public_key(), x509.random_serial_number(), NOW - DAY, NOW + 100 * DAY
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Identity(builder.sign(issuer.key, hashes.SHA256()), key)


def check(
    folder: Path,
    text: str,
    *,
    trusted: Sequence[Identity] = (CA,),
    key: str | None = None,
    announced: Announced | None = None,
    now: datetime.datetime | None = None,
) -> list[Finding]:
    """What is found in a file of that text, with another one of the text `key`."""
    folder.mkdir(exist_ok=True)
    path, key_path = folder / "node.pem", None
    write_files([NewFile(path, text, private=True)])
    if key is not None:
        key_path = folder / "node.key"
        write_files([NewFile(key_path, key, private=True)])
    return explained(check_certificate(Subject(path, [item.certificate for item in trusted], key_path, announced), now))


def announced(name: str, *further: str) -> Announced:
    return Announced(name, ExpectedPeer((name, *further)))


def test_a_good_certificate_is_ok_and_described(tmp_path: Path) -> None:
    level, text = only(check(tmp_path, NODE.certificate_pem, key=NODE.key_pem))
    assert level is Level.OK
    assert text.startswith("CN=node1.my.cluster, DNS:node1.my.cluster, IP:10.0.0.1; from /CN=Test CA; valid until ")
    assert text.endswith(" (499 days); its key fits")


def test_a_key_in_the_same_file_is_checked(tmp_path: Path) -> None:
    assert only(check(tmp_path, NODE.combined_pem))[1].endswith("its key fits")


def test_a_key_that_was_not_given_is_said_not_to_be_checked(tmp_path: Path) -> None:
    assert only(check(tmp_path, NODE.certificate_pem))[1].endswith("its key was not checked (--key)")


def test_a_self_signed_certificate_of_the_bundle_is_ok(tmp_path: Path) -> None:
    own = make_self_signed(NAMES, valid_for(500), make_key())
    level, text = only(check(tmp_path, own.combined_pem, trusted=[CA, own]))
    assert (level, "; self-signed; " in text) == (Level.OK, True)


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    level, text = only(explained(check_certificate(Subject(tmp_path / "none.crt", [CA.certificate]))))
    assert (level, "none.crt does not exist" in text) == (Level.FAULT, True)


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_holds_no_certificate_is_a_fault(tmp_path: Path, text: str) -> None:
    assert only(check(tmp_path, text))[0] is Level.FAULT


def test_an_expired_certificate_is_told_with_its_date(tmp_path: Path) -> None:
    ca = lab.authority("Test Authority")
    old = lab.expired(ca, "node1")
    level, text = only(check(tmp_path, old.combined_pem().decode(), trusted=[Identity(ca.certificate, ca.key)]))
    assert level is Level.FAULT
    assert text.endswith(f"expired on {old.certificate.not_valid_after_utc:%Y-%m-%d}; renew it")


def test_a_certificate_that_is_not_yet_valid_is_told_with_its_date(tmp_path: Path) -> None:
    early = issue(CA, NAMES, Validity(NOW + DAY, NOW + 9 * DAY), make_key())
    level, text = only(check(tmp_path, early.combined_pem))
    assert level is Level.FAULT
    assert f"is not valid before {NOW + DAY:%Y-%m-%d}" in text
    assert "is the clock right?" in text


@pytest.mark.parametrize(("days", "level"), [(1, Level.WARNING), (30, Level.WARNING), (31, Level.OK)])
def test_a_certificate_that_ends_within_a_month_is_a_warning(tmp_path: Path, days: int, level: Level) -> None:
    own = issue(CA, NAMES, valid_for(days, NOW), make_key())
    found = only(check(tmp_path, own.combined_pem, now=NOW + datetime.timedelta(seconds=1)))
    assert found[0] is level
    assert level is Level.OK or f"it expires in {days - 1} days, on" in found[1]


def test_a_key_of_another_certificate_is_a_fault(tmp_path: Path) -> None:
    other = issue(CA, NAMES, valid_for(500), make_key())
    level, text = only(check(tmp_path, NODE.certificate_pem, key=other.key_pem))
    assert level is Level.FAULT
    assert "does not belong to the certificate /CN=node1.my.cluster" in text


def test_a_key_with_a_passphrase_is_a_fault(tmp_path: Path) -> None:
    locked = NODE.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    level, text = only(check(tmp_path, NODE.certificate_pem, key=locked.decode()))
    assert (level, "is encrypted" in text) == (Level.FAULT, True)


def test_a_key_that_everyone_can_read_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "open.pem"
    path.write_text(NODE.combined_pem)
    path.chmod(0o644)
    level, text = only(explained(check_certificate(Subject(path, [CA.certificate]))))
    assert (level, "open to every user of this host (mode 0644)" in text) == (Level.WARNING, True)


def test_a_certificate_of_another_ca_is_a_fault(tmp_path: Path) -> None:
    other = make_ca("Other CA", valid_for(1000), make_key())
    level, text = only(check(tmp_path, NODE.combined_pem, trusted=[other]))
    assert (level, "its issuer is not in our CA file" in text) == (Level.FAULT, True)


def test_a_self_signed_certificate_that_the_bundle_lacks_is_a_fault(tmp_path: Path) -> None:
    own = make_self_signed(NAMES, valid_for(500), make_key())
    level, text = only(check(tmp_path, own.combined_pem))
    assert (level, "it is self-signed and not in our CA file; add it there" in text) == (Level.FAULT, True)


def test_an_expired_ca_is_named(tmp_path: Path) -> None:
    ca = make_ca("Old CA", Validity(NOW - 9 * DAY, NOW - DAY), make_key())
    own = bare(name_of("node1"), ca)
    level, text = only(check(tmp_path, own.combined_pem, trusted=[ca]))
    assert level is Level.FAULT
    assert "a chain with /CN=Old CA, which can't be trusted: it has expired" in text


def test_a_short_key_is_a_fault(tmp_path: Path) -> None:
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose
    own = issue(CA, NAMES, valid_for(500), short)
    level, text = only(check(tmp_path, own.combined_pem))
    assert (level, "its key is too short; 2048 bits" in text) == (Level.FAULT, True)


def test_a_key_on_a_curve_that_tls_does_not_use_is_a_fault(tmp_path: Path) -> None:
    own = issue(CA, NAMES, valid_for(500), ec.generate_private_key(ec.SECP256K1()))
    level, text = only(check(tmp_path, own.combined_pem))
    assert (level, "of a kind that TLS does not use" in text) == (Level.FAULT, True)


@pytest.mark.filterwarnings("ignore:X509.sign is deprecated")
def test_a_weak_digest_is_a_fault(tmp_path: Path) -> None:
    signed = crypto.X509.from_cryptography(NODE.certificate)
    signed.sign(crypto.PKey.from_cryptography_key(CA.key), "sha1")
    level, text = only(check(tmp_path, Identity(signed.to_cryptography(), NODE.key).combined_pem))
    assert (level, "its signature's digest is too weak; use SHA-256" in text) == (Level.FAULT, True)


def test_a_certificate_for_servers_alone_is_a_fault(tmp_path: Path) -> None:
    own = bare(name_of("node1"), CA, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
    level, text = only(check(tmp_path, own.combined_pem))
    assert (level, "make it for server and client authentication" in text) == (Level.FAULT, True)


def test_the_ca_s_own_name_on_a_node_is_a_fault(tmp_path: Path) -> None:
    own = bare(CA.certificate.subject, CA)
    level, text = only(check(tmp_path, own.combined_pem))
    assert level is Level.FAULT
    assert text == (
        "its name /CN=Test CA is also the name of its CA, so programs take it for self-signed; "
        "make it with a common name of its own"
    )


def test_the_ca_s_own_name_on_a_node_is_a_warning_where_key_identifiers_tell_them_apart(tmp_path: Path) -> None:
    identifier = CA.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    identifiers = (
        x509.SubjectKeyIdentifier(b"the node's own"),
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
    )
    own = bare(CA.certificate.subject, CA, *identifiers)
    level, text = only(check(tmp_path, own.combined_pem))
    assert (level, "is also the name of its CA" in text) == (Level.WARNING, True)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_file_must_begin_with_the_node_s_own_certificate(tmp_path: Path, order: Sequence[int]) -> None:
    made = lab.authority("Root")
    top = Identity(made.certificate, made.key)
    ca = bare(name_of("Middle"), top, x509.BasicConstraints(ca=True, path_length=None))
    chain = [bare(name_of("node1"), ca), ca, top]
    findings = check(tmp_path, "".join(chain[index].certificate_pem for index in order), trusted=[top])
    if order[0] != 0:
        level, text = only(findings)
        assert level is Level.FAULT
        assert text.startswith("the bundle's order is wrong: it begins with the CA /CN=")
        assert "must be the node's own, /CN=node1, and" in text
    elif order == (0, 1, 2):
        assert only(findings)[0] is Level.OK
    else:
        level, text = only(findings)
        assert level is Level.WARNING
        assert text.startswith("the certificates are not in order: /CN=node1 is followed by /CN=Root,")


def test_an_old_and_a_renewed_certificate_of_one_key_are_in_any_order(tmp_path: Path) -> None:
    key = make_key()
    old, new = (make_self_signed(NAMES, valid_for(days), key) for days in (400, 500))
    for first, second in ((old, new), (new, old)):
        findings = check(
            tmp_path / str(first is old), first.certificate_pem + second.certificate_pem, trusted=[old, new]
        )
        assert only(findings)[0] is Level.OK


def test_a_bundle_in_a_certificate_s_place_is_a_warning(tmp_path: Path) -> None:
    first, second = (make_self_signed(parse_names([name]), valid_for(500), make_key()) for name in ("n1", "n2"))
    level, text = only(check(tmp_path, first.certificate_pem + second.certificate_pem, trusted=[first, second]))
    assert (level, text.endswith("is this the bundle of all nodes?")) == (Level.WARNING, True)


def test_a_certificate_without_any_name_is_a_fault(tmp_path: Path) -> None:
    level, text = only(check(tmp_path, bare(x509.Name([]), CA).combined_pem))
    assert (level, "it carries no name at all" in text) == (Level.FAULT, True)


def test_an_address_that_is_written_as_a_dns_name_is_a_warning(tmp_path: Path) -> None:
    own = bare(name_of("node1"), CA, x509.SubjectAlternativeName([x509.DNSName("10.0.0.1")]))
    level, text = only(check(tmp_path, own.combined_pem))
    assert (level, "its SAN has the address 10.0.0.1 as a DNS name" in text) == (Level.WARNING, True)


def test_an_address_as_common_name_alone_is_a_warning(tmp_path: Path) -> None:
    level, text = only(check(tmp_path, bare(name_of("10.0.0.1"), CA).combined_pem))
    assert (level, "is its CN, but it has no IP SAN" in text) == (Level.WARNING, True)


@pytest.mark.parametrize("name", ["node1.my.cluster", "NODE1.my.cluster.", "10.0.0.1"])
def test_the_announced_name_is_found(tmp_path: Path, name: str) -> None:
    assert only(check(tmp_path, NODE.combined_pem, announced=announced(name)))[0] is Level.OK


def test_an_announced_name_that_is_not_in_the_certificate_is_a_fault(tmp_path: Path) -> None:
    level, text = only(check(tmp_path, NODE.combined_pem, announced=announced("node2.my.cluster")))
    assert level is Level.FAULT
    assert text.startswith("a node that announces node2.my.cluster can't use it: it carries CN=node1.my.cluster, ")


def test_an_announced_address_without_an_ip_san_is_a_fault(tmp_path: Path) -> None:
    level, text = only(check(tmp_path, NODE.combined_pem, announced=announced("10.0.0.2")))
    assert level is Level.FAULT
    assert text.endswith("and no IP SAN for 10.0.0.2; make it with --ip 10.0.0.2")


def test_an_announced_address_that_only_dns_leads_to_the_name_is_a_warning(tmp_path: Path) -> None:
    found = check(tmp_path, NODE.combined_pem, announced=announced("10.0.0.2", "node1.my.cluster"))
    level, text = only(found)
    assert (level, "it passes only as long as DNS leads" in text) == (Level.WARNING, True)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    old = lab.expired(lab.authority("Other CA"), "10.0.0.1")
    findings = check(tmp_path, old.certificate_pem().decode(), key=NODE.key_pem, announced=announced("node1"))
    texts = " ".join(finding.text for finding in findings)
    for mistake in ("does not belong", "expired on", "issuer is not in our CA file", "no IP SAN", "announces node1"):
        assert mistake in texts
    assert worst(findings) is Level.FAULT


def test_a_certificate_that_breaks_x509_s_rules_is_a_fault(tmp_path: Path) -> None:
    own = bare(name_of("node1"), CA, x509.UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, b"nonsense"))
    level, _ = only(check(tmp_path, own.certificate_pem))
    assert level is Level.FAULT


DER = NODE.certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_is_in_a_certificate_s_place_there_is_an_answer(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(DER)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.mktemp("broken") / "node.crt"
    path.write_text(ssl.DER_cert_to_PEM_cert(bytes(content)))
    assert check_certificate(Subject(path, [CA.certificate]))
    trusted, findings = check_ca(path)
    assert findings
    node = tmp_path_factory.mktemp("node") / "node.crt"
    node.write_text(NODE.certificate_pem)
    assert not trusted or check_certificate(Subject(node, trusted))
    with suppress(CredentialsError):
        assert all(line.isprintable() for line in map(logs.one_line, describe_file(path)))
