"""How places are written, and what is said about those that can't be understood."""

from __future__ import annotations

import contextlib
import ipaddress
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.transport.endpoint import (
    EndpointError,
    ExecEndpoint,
    StdioEndpoint,
    TcpEndpoint,
    UnixEndpoint,
    WebSocketEndpoint,
    parse_endpoint,
)


def refusal(text: str) -> str:
    with pytest.raises(EndpointError) as caught:
        parse_endpoint(text)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("node2.my.cluster:4444", TcpEndpoint("node2.my.cluster", 4444)),
        ("node_2:0", TcpEndpoint("node_2", 0)),
        ("münchen.example:1", TcpEndpoint("münchen.example", 1)),
        ("127.0.0.1:65535", TcpEndpoint("127.0.0.1", 65535)),
        ("[::1]:873", TcpEndpoint("::1", 873)),
        ("[fe80::1%eth0]:873", TcpEndpoint("fe80::1%eth0", 873)),
        (":4444", TcpEndpoint("", 4444)),
        ("unix:/run/db.sock", UnixEndpoint("/run/db.sock")),
        ("unix:relative:path", UnixEndpoint("relative:path")),
        ("exec:rsync --server .", ExecEndpoint(("rsync", "--server", "."))),
        ("exec:sh -c 'a; b: c'", ExecEndpoint(("sh", "-c", "a; b: c"))),
        ("stdio:", StdioEndpoint()),
        ("-", StdioEndpoint()),
        ("unix:" + 107 * "x", UnixEndpoint(107 * "x")),
        ("ws://0.0.0.0:8080/sst", WebSocketEndpoint(TcpEndpoint("0.0.0.0", 8080), "/sst", False)),  # noqa: S104 - parsed
        ("ws://:8080/", WebSocketEndpoint(TcpEndpoint("", 8080), "/", False)),
        ("ws://edge.example", WebSocketEndpoint(TcpEndpoint("edge.example", 80), "/", False)),
        ("wss://edge.example/a/b", WebSocketEndpoint(TcpEndpoint("edge.example", 443), "/a/b", True)),
        ("WSS://edge.example", WebSocketEndpoint(TcpEndpoint("edge.example", 443), "/", True)),
        ("wss://[::1]/", WebSocketEndpoint(TcpEndpoint("::1", 443), "/", True)),
        ("wss://[::1]:8443/", WebSocketEndpoint(TcpEndpoint("::1", 8443), "/", True)),
        ("ws://edge/x?node=2&a=/?", WebSocketEndpoint(TcpEndpoint("edge", 80), "/x", False, "node=2&a=/?")),
    ],
)
def test_each_form_is_understood(text: str, endpoint: object) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no port"),
        ("node1", "has no port"),
        ("node1:", "port '' is not a number from 0 to 65535"),
        ("node1:mysql", "port 'mysql' is not a number"),
        ("node1:65536", "port '65536' is not a number"),
        ("node1:-1", "port '-1' is not a number"),
        ("node1:+1", "port '+1' is not a number"),
        ("node1: 1", "port ' 1' is not a number"),
        ("node1:٣", "is not a number"),
        ("node1:" + 5000 * "9", "is not a number"),
        ("::1:873", "write an IPv6 address in brackets, as [::1]:873 or [::1:873]:PORT"),
        ("::1:mysql", "write an IPv6 address in brackets, as [::1]:mysql"),
        ("fd00::5", "write an IPv6 address in brackets, as [fd00::5]:PORT"),
        ("::1", "write an IPv6 address in brackets, as [::1]:PORT"),
        ("node1:4444:873", "'node1:4444' is not a host name or address"),
        ("[node1]:873", "'node1' in brackets is not an IPv6 address"),
        ("[127.0.0.1]:873", "in brackets is not an IPv6 address"),
        ("[]:873", "in brackets is not an IPv6 address"),
        ("[::1]", "endpoint '[::1]' has no port; expected [::1]:PORT"),
        ("[fd00::5]", "endpoint '[fd00::5]' has no port; expected [fd00::5]:PORT"),
        ("[node1]", "'node1' in brackets is not an IPv6 address"),
        ("http://node1:80", "http:// means nothing here"),
        ("tcp://node1", "tcp:// means nothing here"),
        ("//node1:80", "'//node1' is not a host name or address"),
        ("user@node1:80", "'user@node1' is not a host name"),
        ("a b:80", "'a b' is not a host name"),
        ("a\0b:80", "is not a host name"),
        ("a\nb:80", "is not a host name"),
        (254 * "a" + ":80", "is not a host name"),
        ("unix:", "names no path"),
        ("unix:/a\0b", "names no path"),
        ("unix:" + 108 * "x", "holds at most 107 bytes"),
        ("unix:" + 54 * "é", "holds at most 107 bytes"),
        ("exec:", "names no program"),
        ("exec:   ", "names no program"),
        ("exec:'' a", "names no program"),
        ("exec:sh -c 'a", "quote the command's words as for a shell"),
        ("exec:a\0b", "NUL"),
        ("ws://", "names no host"),
        ("wss:///sst", "names no host"),
        ("ws://edge:http/", "port 'http' is not a number"),
        ("ws://edge:/", "port '' is not a number"),
        ("ws://::1/", "write an IPv6 address in brackets"),
        ("ws://a b/", "'a b' is not a host name"),
        ("ws://edge/a b", "a character that a URL can't"),
        ("ws://edge/{host}", "a character that a URL can't"),
        ("ws://edge/#part", "a character that a URL can't"),
        ("ws://edge/x?", "nothing behind it"),
        ("ws://edge/\r\nHost: evil", "a character that a URL can't"),
        ("ws:edge", "port 'edge' is not a number"),
    ],
)
def test_each_mistake_is_named(text: str, reason: str) -> None:
    assert reason in refusal(text)


def test_a_scheme_that_is_unknown_is_answered_with_the_forms() -> None:
    forms = (
        "HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH, exec:COMMAND, stdio:, systemd:NAME or ws://HOST:PORT/PATH (wss://…)"
    )
    assert refusal("tcp://node1").endswith(f"expected {forms}")


@pytest.mark.parametrize("text", ["wss://me:hunter2@edge.example/", "ws://hunter2@edge.example/x"])
def test_a_password_in_a_url_is_refused_and_not_shown(text: str) -> None:
    assert "hunter2" not in refusal(text)
    assert "--header" in refusal(text)


def test_the_query_of_a_url_may_hold_a_token_and_is_never_shown() -> None:
    endpoint = parse_endpoint("wss://edge.example/sst?token=hunter2")
    assert str(endpoint) == "wss://edge.example:443/sst?…"
    assert "hunter2" not in repr(endpoint)
    assert "hunter2" not in refusal("wss://edge.example:x/sst?token=hunter2")
    assert "hunter2" not in refusal("wss://edge.example/sst?token=hunter2#")


def test_a_path_that_is_not_utf_8_is_taken_as_it_is() -> None:
    assert parse_endpoint("unix:/run/\udcff") == UnixEndpoint("/run/\udcff")


ports = st.integers(0, 65535)
labels = st.from_regex(r"\A[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?\Z")
hosts = st.lists(labels, min_size=1, max_size=5).map(".".join)


@given(st.builds(TcpEndpoint, hosts | st.ip_addresses().map(str) | st.just(""), ports))
def test_a_tcp_place_reads_back_as_it_is_shown(endpoint: TcpEndpoint) -> None:
    assert parse_endpoint(str(endpoint)) == endpoint


paths = st.from_regex(r"\A/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*\Z")


@given(st.builds(WebSocketEndpoint, st.builds(TcpEndpoint, hosts, ports), paths, st.booleans()))
def test_a_web_socket_reads_back_as_it_is_shown(endpoint: WebSocketEndpoint) -> None:
    assert parse_endpoint(str(endpoint)) == endpoint


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_a_program_and_its_arguments_read_back_as_they_are_shown(argv: list[str]) -> None:
    if argv[0]:
        assert parse_endpoint(str(ExecEndpoint(tuple(argv)))) == ExecEndpoint(tuple(argv))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=26))
def test_a_path_reads_back_as_it_is_shown(path: str) -> None:
    assert parse_endpoint(str(UnixEndpoint(path))) == UnixEndpoint(path)


@given(st.ip_addresses(v=6), ports)
def test_an_address_of_ipv6_needs_its_brackets(address: ipaddress.IPv6Address, port: int) -> None:
    assert f"[{address}]:{port}" in refusal(f"{address}:{port}")


@given(
    st.text()
    | st.builds("".join, st.lists(st.sampled_from(["unix:", "exec:", "stdio:", "[", "]", ":", "'", "::1", "80", "\0"])))
)
def test_any_text_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(EndpointError):
        parse_endpoint(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_command_is_split_as_a_shell_splits_it(text: str) -> None:
    with contextlib.suppress(EndpointError):
        parsed = parse_endpoint("exec:" + text)
        assert isinstance(parsed, ExecEndpoint)
        assert list(parsed.argv) == shlex.split(text)
