"""Addresses as the server passes them, and the ready line, which the server must never refuse."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sst.address import Address, format_ready, parse_address
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.rsync import Secret


def refusal(text: str) -> str:
    with pytest.raises(SstError) as caught:
        parse_address(text)
    assert caught.value.exit_code == ExitCode.BAD_SETTING
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("node2.my.cluster", Address("node2.my.cluster", 4444)),
        ("node2.my.cluster:4567", Address("node2.my.cluster", 4567)),
        ("10.0.0.2:4567", Address("10.0.0.2", 4567)),
        ("[::1]:4567", Address("::1", 4567)),
        ("[::1]", Address("::1", 4444)),
        ("fd00::2", Address("fd00::2", 4444)),
        ("fd00::2/rsync_tunnel_sst", Address("fd00::2", 4444, "rsync_tunnel_sst")),
        ("127.0.0.1:4999/rsync_tunnel_sst", Address("127.0.0.1", 4999, "rsync_tunnel_sst")),
        ("node_2/m/1234/1", Address("node_2", 4444, "m")),
        ("[::1]:1/m/1234", Address("::1", 1, "m")),
    ],
)
def test_an_address_is_read_as_the_server_writes_it(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":4444", "/module", "[]:4444", "[node2]:4444", "[::1", "::1]:4444", "node2:4444:1", "node2//1", "a/b/c/d/e"],
)
def test_what_has_another_form_is_refused(text: str) -> None:
    assert "expected HOST, HOST:PORT or [IPV6]:PORT" in refusal(text)


@pytest.mark.parametrize("text", ["node2:0", "node2:65536", "node2:" + "9" * 5000])
def test_an_impossible_port_is_refused(text: str) -> None:
    assert "expected a port from 1 to 65535" in refusal(text)


@pytest.mark.parametrize("text", ["node2:٤", "node 2", "nöde2", "node2,node3", "a;b", "a\nb", "fe80::1%eth0"])
def test_a_character_that_the_server_would_not_pass_on_is_refused(text: str) -> None:
    assert "expected letters, digits and" in refusal(text)


def test_a_refusal_says_where_the_address_comes_from() -> None:
    assert "It comes from wsrep_sst_receive_address or wsrep_node_address" in refusal("node2:")


def test_a_secret_in_an_address_is_not_shown() -> None:
    with pytest.raises(SstError, match="holds an @") as caught:
        parse_address("pytunnel:TopSecret@node2:4444")
    assert "TopSecret" not in str(caught.value)


def test_the_ready_line_names_the_module() -> None:
    assert format_ready(Address("node2", 4444, "rsync_tunnel_sst")) == "ready node2:4444/rsync_tunnel_sst"


def test_the_ready_line_hands_a_secret_over() -> None:
    line = format_ready(Address("::1", 4444, "rsync_tunnel_sst"), Secret("pytunnel", "s3-c.r_t"))
    assert line == "ready pytunnel:s3-c.r_t@[::1]:4444/rsync_tunnel_sst"


@pytest.mark.parametrize(
    "address",
    [Address("My Company, Inc."), Address("nöde"), Address("node2", 4444, "a b"), Address("a@b"), Address("a/b")],
)
def test_a_ready_line_that_the_server_would_refuse_is_not_made(address: Address) -> None:
    with pytest.raises(SstError):
        format_ready(address)


@pytest.mark.parametrize("secret", [Secret("a b", "x"), Secret("user", "a:b"), Secret("user", "a@b"), Secret("", "x")])
def test_a_secret_that_would_break_the_ready_line_is_refused_unseen(secret: Secret) -> None:
    with pytest.raises(SstError, match="the transfer's secret can't be used"):
        format_ready(Address("node2"), secret)


hosts = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True) | st.ip_addresses().map(str)
names = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)


@given(hosts, st.integers(1, 65535), st.none() | names)
def test_an_announced_address_comes_back_as_it_was(host: str, port: int, module: str | None) -> None:
    address = Address(host, port, module)
    line = format_ready(address, Secret("pytunnel", "s"))
    assert parse_address(line.removeprefix("ready pytunnel:s@")) == address


@given(st.text(), st.integers(-5, 70000), st.none() | st.text(), st.none() | st.tuples(st.text(), st.text()))
def test_no_ready_line_holds_a_character_that_the_server_refuses(
    host: str, port: int, module: str | None, secret: tuple[str, str] | None
) -> None:
    try:
        line = format_ready(Address(host, port, module), Secret(*secret) if secret else None)
    except SstError:
        return
    assert re.fullmatch(r"ready [A-Za-z0-9_:/.@\[\]-]+", line)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except SstError:
        return
    assert address.host
    assert 1 <= address.port <= 65535


@given(st.ip_addresses(v=6))
def test_any_ipv6_address_needs_no_brackets(address: ipaddress.IPv6Address) -> None:
    assert parse_address(str(address)) == parse_address(f"[{address}]") == Address(str(address))
