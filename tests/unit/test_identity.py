"""Which certificates carry which names. Nothing else stands between a peer and another peer's data."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.certificates import elliptic_key
from pytunnel.tls.identity import (
    ExpectedPeer,
    ascii_host,
    carries_name,
    matches_host,
    parse_address,
    presented_names,
)

KEY = elliptic_key()
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
SAN_OID = bytes([0x55, 0x1D, 17])


def certificate(*common_names: str, names: Sequence[x509.GeneralName] = ()) -> x509.Certificate:
    """One with these CNs, and alternative names if there are any."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(MOMENT)
        .not_valid_after(MOMENT + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256())


def patched(original: x509.Certificate, old: bytes, new: bytes) -> x509.Certificate:
    """The certificate with some of its bytes replaced; its signature is then wrong, which no name depends on."""
    der = original.public_bytes(serialization.Encoding.DER)
    assert old in der
    return x509.load_der_x509_certificate(der.replace(old, new))


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def ip(*addresses: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]


# The common name, which is matched by code of our own.


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("node1.my.cluster", "node1.my.cluster"),
        ("NODE1.my.Cluster", "node1.MY.cluster"),
        ("node1.my.cluster.", "node1.my.cluster"),
        ("node1.my.cluster", "node1.my.cluster."),
        ("localhost", "localhost"),
        ("node_1", "node_1"),
        ("node 1", "node 1"),
        ("*.my.cluster", "node1.my.cluster"),
        ("*.MY.cluster.", "Node1.my.cluster"),
        ("*.my.cluster", "node1.my.cluster."),
        ("*.my.cluster", "xn--mnchen-3ya.my.cluster"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("XN--mnchen-3ya.example", "MÜNCHEN.example"),
        ("*.münchen.example", "node1.xn--mnchen-3ya.example"),
    ],
)
def test_these_common_names_stand_for_these_hosts(pattern: str, host: str) -> None:
    assert matches_host(pattern, host)


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("node1.my.cluster", "node2.my.cluster"),
        ("node1", "node1.my.cluster"),
        ("node1.my.cluster", "node1"),
        ("my.cluster", "node1.my.cluster"),
        ("node1.my.cluster", "xnode1.my.cluster"),
        ("node1.my.cluster", "node1xmy.cluster"),
        ("", ""),
        (".", "."),
        ("node1..cluster", "node1..cluster"),
        ("node1.my.cluster..", "node1.my.cluster.."),
        ("node1.my.cluster", " node1.my.cluster"),
        ("*.my.cluster", "my.cluster"),
        ("*.my.cluster", ".my.cluster"),
        ("*.my.cluster", "a.node1.my.cluster"),
        ("*.my.cluster", "node1.my.cluster.example"),
        ("*.my.cluster", "*.my.cluster"),
        ("*.cluster", "my.cluster"),
        ("*.cluster.", "my.cluster."),
        ("*..cluster", "my..cluster"),
        ("*", "node1"),
        ("*.", "node1."),
        ("*.*", "my.cluster"),
        ("*.*.cluster", "node1.my.cluster"),
        ("node*.my.cluster", "node1.my.cluster"),
        ("*1.my.cluster", "node1.my.cluster"),
        ("node1.*.cluster", "node1.my.cluster"),
        ("n*.my.cluster", "n*.my.cluster"),
        ("*.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("node1.my.cluster\0.evil.example", "node1.my.cluster"),
        ("node1.my.cluster\0.evil.example", "node1.my.cluster\0.evil.example"),
        ("node1.my.cluster\n", "node1.my.cluster\n"),
        ("node1\u202e.my.cluster", "node1\u202e.my.cluster"),
        ("strasse.example", "straße.example"),
        (64 * "a" + ".example", 64 * "a" + ".example"),
    ],
)
def test_these_common_names_do_not_stand_for_these_hosts(pattern: str, host: str) -> None:
    assert not matches_host(pattern, host)


def stands_for(pattern: str, host: str) -> bool:
    """The rule once more, in other words: a regular expression made from the pattern, for names in ASCII."""
    if re.search(r"^\.|\.\.|^$", pattern) or re.search(r"^\.|\.\.|^$|\*", host):
        return False
    expression = re.escape(re.sub(r"\.\Z", "", pattern))
    if re.match(r"\*\.[^.*]+\.[^.]", pattern):
        expression = expression.replace(re.escape("*"), "[^.]+", 1)
    return re.fullmatch(expression + r"\.?", host, re.IGNORECASE | re.ASCII) is not None


letters = st.sampled_from(["a", "B", "b", "x1", "-", "*", ".", ".", "_"])
short_names = st.lists(letters, max_size=9).map("".join)


@st.composite
def pattern_and_host(draw: st.DrawFn) -> tuple[str, str]:
    """A pattern, and a host that is like it: two random names would hardly ever be equal."""
    pattern = draw(short_names)
    label, dot, parent = pattern.partition(".")
    host = draw(st.sampled_from([pattern, draw(short_names), draw(short_names) + dot + parent, label, parent]))
    spelt = draw(st.sampled_from([host, host.upper(), host.lower(), host.swapcase()]))
    return pattern, spelt + draw(st.sampled_from(["", "", ".", ".."]))


@settings(max_examples=300)
@given(pattern_and_host())
def test_a_common_name_stands_for_what_the_rule_says(pair: tuple[str, str]) -> None:
    assert matches_host(*pair) == stands_for(*pair)


host_names = st.from_regex(r"\A[a-z]{1,8}(\.[a-z0-9]{1,8}){1,3}\Z")


@settings(max_examples=50)
@given(host_names, st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Cn", "Co"]), st.data())
def test_a_name_with_an_unprintable_character_matches_nothing(host: str, character: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(host)))
    deceiving = host[:place] + character + host[place:]
    assert not any([matches_host(deceiving, host), matches_host(host, deceiving), matches_host(deceiving, deceiving)])


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_two_texts_can_be_compared(pattern: str, host: str) -> None:
    if matches_host(pattern, host) and "*" not in pattern:
        assert ascii_host(pattern) == ascii_host(host) is not None


@pytest.mark.parametrize("name", ["node1.my.cluster ", " node1.my.cluster", "\tnode1.my.cluster"])
def test_an_alternative_name_with_a_blank_around_it_is_another_name(name: str) -> None:
    assert not carries_name(certificate("x", names=dns(name)), "node1.my.cluster")


# Addresses.


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::00ff", "2001:db8::ff"),
        ("2001:db8:0:0::ff", "2001:db8::ff"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("[::ffff:a00:1]", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_the_same_in_every_spelling(written: str, address: str) -> None:
    assert parse_address(written) == ipaddress.ip_address(address)
    assert carries_name(certificate(written), address)
    assert carries_name(certificate(address), written)
    assert carries_name(certificate("x", names=ip(address)), written)


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1 ", "0x7f000001", "[]", "node1", ":"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


def test_an_alternative_address_inside_ipv6_is_the_ipv4_address() -> None:
    assert carries_name(certificate("x", names=ip("::ffff:10.0.0.1")), "10.0.0.1")


def test_a_host_name_does_not_match_an_address_that_looks_like_it() -> None:
    assert not carries_name(certificate("x", names=dns("10.0.0.1.example")), "10.0.0.1")


def test_an_address_is_not_matched_by_a_dns_name() -> None:
    assert not carries_name(certificate("x", names=dns("*.0.0.1")), "10.0.0.1")


@settings(max_examples=50)
@given(st.ip_addresses(), st.ip_addresses())
def test_addresses_match_when_they_are_equal(carried: object, wanted: object) -> None:
    assert carries_name(certificate(str(carried)), str(carried))
    assert carries_name(certificate(str(carried)), str(wanted)) == (
        parse_address(str(carried)) == parse_address(str(wanted))
    )


# Alternative names.


@pytest.mark.parametrize(
    ("carried", "host"),
    [
        ("node1.my.cluster", "NODE1.my.cluster."),
        ("node1.my.cluster.", "node1.my.cluster"),
        ("*.my.cluster", "node1.my.cluster"),
        ("xn--mnchen-3ya.example", "München.example"),
        ("localhost", "localhost"),
    ],
)
def test_these_alternative_names_stand_for_these_hosts(carried: str, host: str) -> None:
    assert carries_name(certificate("x", names=dns(carried)), host)


@pytest.mark.parametrize(
    ("carried", "host"),
    [
        ("node1.my.cluster", "node2.my.cluster"),
        ("*.my.cluster", "a.node1.my.cluster"),
        ("*.my.cluster", "my.cluster"),
        ("*.cluster", "my.cluster"),
        ("node*.my.cluster", "node1.my.cluster"),
        ("node1.*.cluster", "node1.my.cluster"),
        ("*", "localhost"),
        ("127.0.0.1", "localhost"),
    ],
)
def test_these_alternative_names_do_not_stand_for_these_hosts(carried: str, host: str) -> None:
    assert not carries_name(certificate("x", names=dns(carried)), host)


def test_the_common_name_counts_beside_alternative_names() -> None:
    both = certificate("node1", names=[*dns("node1.my.cluster"), *ip("10.0.0.1")])
    assert [carries_name(both, name) for name in ("node1", "node1.my.cluster", "10.0.0.1", "node2")] == [
        True,
        True,
        True,
        False,
    ]


def test_each_of_several_common_names_counts() -> None:
    both = certificate("node1", "node2")
    assert [carries_name(both, name) for name in ("node1", "node2", "node3")] == [True, True, False]


@pytest.mark.parametrize(
    "other",
    [
        x509.DNSName("*"),
        x509.DNSName("a*b.*.c"),
        x509.DNSName("10.0.0.1"),
        x509.UniformResourceIdentifier("https://node1:4444/"),
        x509.UniformResourceIdentifier("urn:uuid:1"),
        x509.RFC822Name("root@node1"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), b"\x16\x00"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    ],
)
def test_an_alternative_name_of_another_kind_spoils_no_other(other: x509.GeneralName) -> None:
    mixed = certificate("x", names=[other, *dns("node1.my.cluster"), *ip("10.0.0.2")])
    assert carries_name(mixed, "node1.my.cluster")
    assert carries_name(mixed, "10.0.0.2")


# Certificates that break X.509's rules come from peers whom nobody has verified yet.


def test_alternative_names_given_twice_are_carried_by_nobody() -> None:
    twice = patched(x509.load_der_x509_certificate(_with_two_extensions()), bytes([0x55, 0x1D, 99]), SAN_OID)
    assert [carries_name(twice, name) for name in ("one.my.cluster", "two.my.cluster", "node1")] == [False, False, True]
    assert presented_names(twice) == "CN=node1"


def _with_two_extensions() -> bytes:
    one, two = x509.SubjectAlternativeName(dns("one.my.cluster")), x509.SubjectAlternativeName(dns("two.my.cluster"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node1")]))
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(MOMENT)
        .not_valid_after(MOMENT + timedelta(days=1))
        .add_extension(one, critical=False)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), two.public_bytes()), critical=False
        )
    )
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_common_name_that_is_not_text_is_carried_by_nobody() -> None:
    broken = patched(certificate("node1"), b"node1", b"no\xff\xfe1")
    assert not carries_name(broken, "node1")
    assert presented_names(broken) == "no name at all"


good = certificate("node1.my.cluster", names=[*dns("a.my.cluster", "*.my.cluster"), *ip("10.0.0.1")])
good_der = good.public_bytes(serialization.Encoding.DER)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(good_der) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_certificate_can_make_the_check_fail_otherwise_than_with_no(changes: list[tuple[int, int]]) -> None:
    der = bytearray(good_der)
    for place, value in changes:
        der[place] = value
    try:
        damaged = x509.load_der_x509_certificate(bytes(der))
    except (ValueError, x509.InvalidVersion):
        return
    assert carries_name(damaged, "node1.my.cluster") in (True, False)
    assert carries_name(damaged, "10.0.0.1") in (True, False)
    assert presented_names(damaged).isprintable()


# What is said.


def test_the_names_of_a_certificate_are_shown_by_kind() -> None:
    shown = presented_names(certificate("node1", names=[*dns("a.my.cluster"), *ip("10.0.0.1", "::1")]))
    assert shown == "CN=node1, DNS:a.my.cluster, IP:10.0.0.1, IP:::1"


def test_names_that_would_forge_a_line_are_shown_escaped() -> None:
    assert presented_names(certificate("a\nINFO all is well")) == "CN=a\\nINFO all is well"


def test_a_certificate_without_names_is_shown_as_such() -> None:
    assert presented_names(certificate()) == "no name at all"


def test_an_expected_peer_may_carry_any_of_its_names() -> None:
    expected = ExpectedPeer(("node1", "10.0.0.1"))
    assert expected.accepts(certificate("node1"))
    assert expected.accepts(certificate("x", names=ip("10.0.0.1")))
    assert not expected.accepts(certificate("node2"))
    assert str(expected) == "node1 or 10.0.0.1"


def test_a_peer_without_expected_names_is_anyone() -> None:
    assert ExpectedPeer().accepts(certificate())
    assert str(ExpectedPeer()) == "any peer that the CA vouches for"


def test_an_empty_name_is_nobody_s() -> None:
    assert not ExpectedPeer(("",)).accepts(certificate("node1", names=dns("node1")))
