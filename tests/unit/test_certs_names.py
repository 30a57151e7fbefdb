"""Which names a certificate can be made for, and where they go."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from pytunnel.certs.errors import CertsError
from pytunnel.certs.making import make_key, make_self_signed, valid_for
from pytunnel.certs.names import parse_names
from pytunnel.tls.identity import carries_name

KEY = make_key()

labels = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,10}[a-zA-Z0-9])?", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)


def test_the_first_name_is_the_common_name_and_all_are_alternative_names() -> None:
    names = parse_names(["node1.my.cluster", "node1"], ["10.0.0.1"])
    assert names.common_name == "node1.my.cluster"
    assert names.hosts == ("node1.my.cluster", "node1")
    assert names.addresses == (ipaddress.ip_address("10.0.0.1"),)


def test_an_address_may_stand_in_a_name_s_place() -> None:
    names = parse_names(["[FD00::1]"])
    assert (names.common_name, names.hosts) == ("fd00::1", ())
    assert names.alternatives.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("fd00::1")]


def test_a_name_that_is_given_twice_is_there_once() -> None:
    assert parse_names(["Node1.", "node1", "10.0.0.1"], ["10.0.0.1"]).hosts == ("node1",)
    assert len(parse_names(["10.0.0.1"], ["10.0.0.1"]).addresses) == 1


def test_a_name_in_another_script_is_written_as_dns_has_it() -> None:
    assert parse_names(["müller.example"]).hosts == ("xn--mller-kva.example",)


def test_a_name_too_long_for_a_common_name_is_an_alternative_name_only() -> None:
    long = f"{'a' * 60}.my.cluster"
    names = parse_names([long, "node1"])
    assert (names.common_name, names.hosts) == ("node1", (long, "node1"))


def test_only_names_too_long_for_a_common_name_are_refused() -> None:
    with pytest.raises(CertsError, match="longer than 64 characters"):
        parse_names([f"{'a' * 60}.my.cluster"])


@pytest.mark.parametrize(
    "word",
    [
        "",
        "node1:4444",
        "node1,node2",
        "node 1",
        "node1/x",
        "-node",
        "no..de",
        "*",
        "a.*.b",
        "node1@b",
        "a\0b",
        "é" * 60,
    ],
)
def test_what_is_no_name_is_refused_and_shown(word: str) -> None:
    with pytest.raises(CertsError, match="no host name and no IP address"):
        parse_names([word])


@pytest.mark.parametrize("word", ["10.0.0.256", "1.2.3", "node.4444"])
def test_a_number_at_the_end_is_taken_for_a_mistaken_address(word: str) -> None:
    with pytest.raises(CertsError, match="neither an IP address nor a host name"):
        parse_names([word])


def test_a_wildcard_for_a_whole_top_level_domain_is_refused() -> None:
    with pytest.raises(CertsError, match="top-level"):
        parse_names(["*.cluster"])


def test_an_ip_option_takes_addresses_alone() -> None:
    with pytest.raises(CertsError, match="--ip 'node1' is no IP address"):
        parse_names(["node1"], ["node1"])


@settings(deadline=None)
@given(st.one_of(st.text(max_size=80), hosts, st.ip_addresses().map(str)))
def test_whatever_is_accepted_the_tunnel_finds_in_the_certificate(word: str) -> None:
    try:
        names = parse_names([word])
    except CertsError:
        return
    certificate = make_self_signed(names, valid_for(1), KEY).certificate
    asked = word.replace("*.", "any.", 1) if word.startswith("*.") else word
    assert carries_name(certificate, asked)


@settings(deadline=None)
@given(hosts, hosts)
def test_no_other_name_is_found_in_the_certificate(word: str, other: str) -> None:
    try:
        names = parse_names([word])
    except CertsError:
        return
    certificate = make_self_signed(names, valid_for(1), KEY).certificate
    assert carries_name(certificate, other) == (word.lower() == other.lower())
