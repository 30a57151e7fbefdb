"""The options of WebSockets and proxies: which ends can be WebSockets, what headers may hold, what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytunnel.errors import PytunnelError
from pytunnel.service.configuration import TunnelPlan, from_arguments, from_environment, make_plan, read_values
from pytunnel.service.options import OPTIONS
from pytunnel.tls.context import Side
from pytunnel.transport.endpoint import TcpEndpoint

EDGE = "wss://edge.example/sst"


def connect(target: str = EDGE, **given: object) -> TunnelPlan:
    return plan(Side.CLIENT, "127.0.0.1:4444", target, peer_name="node2", **given)


def plan(side: Side, source: str, target: str, **given: object) -> TunnelPlan:
    arguments = {name.replace("_", "-"): value for name, value in given.items()}
    return make_plan(side, source, target, read_values(OPTIONS, [from_arguments(arguments)]))


def refusal(side: Side, source: str, target: str, **given: object) -> str:
    with pytest.raises(PytunnelError) as caught:
        plan(side, source, target, **given)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_options_belong_to_the_side_that_is_dialled() -> None:
    made = connect(header=["A: b", "Token: c"], outer_ca="/etc/edge.pem", proxy="http://proxy.example:3128")
    assert made.dialling.web.headers == (("A", "b"), ("Token", "c"))
    assert made.dialling.web.outer_ca == Path("/etc/edge.pem")
    assert made.dialling.proxy == TcpEndpoint("proxy.example", 3128)
    assert made.notes == ()
    assert made.accepting.proxy is None


def test_plain_bytes_never_go_through_a_proxy() -> None:
    made = plan(Side.SERVER, ":4444", "127.0.0.1:873", proxy="http://proxy:3128")
    assert made.dialling.proxy is None


def test_a_listening_web_socket_needs_no_name_and_may_demand_headers() -> None:
    made = plan(Side.SERVER, "ws://:8080/sst", "127.0.0.1:873", header=["Host: edge.example"])
    assert made.accepting.web.headers == (("Host", "edge.example"),)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize(
    ("side", "source", "target"),
    [(Side.SERVER, ":4444", "{}://edge.example/"), (Side.CLIENT, "{}://:8080/", "node2:4444")],
)
def test_a_web_socket_without_tls_inside_is_refused(side: Side, source: str, target: str, scheme: str) -> None:
    assert "with TLS inside" in refusal(side, source.format(scheme), target.format(scheme))


def test_listening_with_an_outer_tls_is_refused_with_what_to_do_instead() -> None:
    said = refusal(Side.SERVER, "wss://:443/sst", "127.0.0.1:873")
    assert "listen at ws:// behind it" in said


def test_listening_at_a_query_is_refused_and_the_query_not_shown() -> None:
    assert "hunter2" not in refusal(Side.SERVER, "ws://:8080/sst?t=hunter2", "127.0.0.1:873")


@pytest.mark.parametrize("target", [EDGE, "ws://node2/sst"])
def test_a_target_that_is_a_web_socket_needs_the_node_s_name(target: str) -> None:
    assert "--peer-name" in refusal(Side.CLIENT, ":4444", target)


def test_the_name_may_come_from_sockopt() -> None:
    assert plan(Side.CLIENT, ":4444", EDGE, sockopt="commonname=node2").tls.peer_names == ("node2",)


@pytest.mark.parametrize(
    "text",
    [
        "Token",
        "hunter2",
        ": hunter2",
        "To ken: hunter2",
        "Token: hunter2\x00",
        "Token: hunter2é",
        "Upgrade: hunter2",
        "sec-websocket-key: hunter2",
        "Content-Length: hunter2",
    ],
)
def test_a_header_that_can_t_be_sent_is_refused_and_its_value_not_shown(text: str) -> None:
    with pytest.raises(PytunnelError, match="--header") as caught:
        connect(header=[text])
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_value_of_a_header_may_hold_commas_and_colons() -> None:
    assert connect(header=["A: b, c: d", "E:f"]).dialling.web.headers == (("A", "b, c: d"), ("E", "f"))


def test_the_environment_holds_one_header_a_line() -> None:
    environment = {"PYTUNNEL_HEADER": "Authorization: Bearer x\nX-Node: 2\n"}
    options = read_values(OPTIONS, [from_environment(OPTIONS, environment)])
    assert options["header"] == ("Authorization:Bearer x", "X-Node:2")


def test_headers_are_in_no_text_of_the_plan() -> None:
    assert "hunter2" not in repr(connect(header=["Authorization: hunter2"]))


@pytest.mark.parametrize(
    "text",
    [
        "proxy:3128",
        "https://proxy:3128",
        "http://proxy",
        "http://:3128",
        "http://proxy:0",
        "http://proxy:1/x",
        "http://",
    ],
)
def test_a_proxy_that_can_t_be_used_is_refused(text: str) -> None:
    with pytest.raises(PytunnelError, match=r"--proxy: .*expected http://HOST:PORT"):
        connect(proxy=text)


def test_a_proxy_with_a_password_is_refused_and_the_password_not_shown() -> None:
    with pytest.raises(PytunnelError, match="without a user and a password") as caught:
        connect(proxy="http://me:hunter2@proxy:3128")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ({"header": ["A: b"]}, "node2:4444"),
        ({"outer_ca": "/etc/edge.pem"}, "ws://edge.example/"),
        ({"proxy": "http://proxy:3128"}, "unix:/run/x"),
    ],
)
def test_an_option_without_effect_is_warned_of(given: dict[str, object], target: str) -> None:
    (note,) = connect(target, **given).notes
    assert "has no effect here" in note
