"""Options from the command line, the environment and a file: which counts, and what is said about bad ones."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from socket import AF_INET, AF_UNSPEC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.errors import PytunnelError
from pytunnel.service.configuration import (
    TunnelPlan,
    from_arguments,
    from_environment,
    from_table,
    make_plan,
    read_toml,
    read_values,
)
from pytunnel.service.options import OPTIONS, ConfigurationError, Value
from pytunnel.sockopt.words import SockoptError
from pytunnel.tls.context import Side
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.endpoint import EndpointError, ExecEndpoint, StdioEndpoint, TcpEndpoint, parse_endpoint
from pytunnel.transport.options import SocketOptions
from pytunnel.tunnel.http_connect import AllowedTarget, AllowedTargets, parse_allowed
from pytunnel.tunnel.tunnel import Limits

# For each option: a text that is possible, and the value that it means.
POSSIBLE: dict[str, tuple[str, Value]] = {
    "cert": ("/etc/node.pem", "/etc/node.pem"),
    "key": ("/etc/node.key", "/etc/node.key"),
    "ca": ("/etc/ca.pem", "/etc/ca.pem"),
    "peer-name": ("node1", ("node1",)),
    "no-verify": ("1", True),
    "ciphers": ("HIGH", "HIGH"),
    "tls-min": ("1.3", "1.3"),
    "sockopt": ("pf=ip6", "pf=ip6"),
    "http-connect": ("127.0.0.1:8873", "127.0.0.1:8873"),
    "allow-target": ("*.my.cluster:4444", ("*.my.cluster:4444",)),
    "target-port": ("14444", 14444),
    "outer-ca": ("/etc/ssl/edge.pem", "/etc/ssl/edge.pem"),
    "header": ("X-Token: t,1", ("X-Token:t,1",)),
    "proxy": ("http://proxy:3128", "http://proxy:3128"),
    "max-connections": ("7", 7),
    "handshake-timeout": ("5", 5.0),
    "connect-timeout": ("2.5", 2.5),
    "idle-timeout": ("600", 600.0),
    "drain-timeout": ("1", 1.0),
}


def config(folder: Path, text: str) -> Path:
    path = folder / "pytunnel.toml"
    path.write_text(text, encoding="utf-8")
    return path


def read_options(
    arguments: Mapping[str, object], environment: Mapping[str, str], file: Path | None
) -> dict[str, Value]:
    content = from_table({} if file is None else read_toml(file), str(file))
    return read_values(OPTIONS, [from_arguments(arguments), from_environment(OPTIONS, environment), content])


def refusal(
    arguments: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_options(arguments or {}, environment or {}, file)
    assert caught.value.exit_code == 2
    assert str(caught.value).isprintable()
    return str(caught.value)


def plan(
    side: Side = Side.SERVER, source: str = ":4444", target: str = "127.0.0.1:873", **options: Value
) -> TunnelPlan:
    return make_plan(side, source, target, {name.replace("_", "-"): value for name, value in options.items()})


# Where a value comes from.


def test_every_option_is_covered_here() -> None:
    assert {option.name for option in OPTIONS} == POSSIBLE.keys()


@pytest.mark.parametrize("name", POSSIBLE)
def test_an_option_has_one_name_in_each_place(name: str, tmp_path: Path) -> None:
    text, value = POSSIBLE[name]
    variable = "PYTUNNEL_" + name.upper().replace("-", "_")
    file = config(tmp_path, f'{name} = "{text}"')
    assert [
        read_options({name: text}, {}, None),
        read_options({}, {variable: text}, None),
        read_options({}, {}, file),
    ] == 3 * [{name: value}]


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = config(tmp_path, 'cert = "file"\nkey = "file"\nca = "file"')
    environment = {"PYTUNNEL_CERT": "environment", "PYTUNNEL_KEY": "environment", "OTHER": "x"}
    arguments = {"cert": "arguments", "key": None, "ca": None}
    assert read_options(arguments, environment, file) == {"cert": "arguments", "key": "environment", "ca": "file"}


def test_nothing_is_set_by_itself() -> None:
    assert read_options(dict.fromkeys(POSSIBLE), {"PATH": "/bin"}, None) == {}


def test_a_file_has_values_of_its_own_types(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        'peer-name = ["node1", "10.0.0.1"]\nno-verify = true\nmax-connections = 7\nidle-timeout = 2.5\ntls-min = 1.3',
    )
    assert read_options({}, {}, file) == {
        "peer-name": ("node1", "10.0.0.1"),
        "no-verify": True,
        "max-connections": 7,
        "idle-timeout": 2.5,
        "tls-min": "1.3",
    }


@pytest.mark.parametrize(
    "given_names", [["node1", "10.0.0.1", "[::1]"], ["node1, 10.0.0.1", "[::1]"], "node1,10.0.0.1, [::1]"]
)
def test_names_are_repeated_or_separated_by_commas(given_names: object) -> None:
    assert read_options({"peer-name": given_names}, {}, None) == {"peer-name": ("node1", "10.0.0.1", "[::1]")}


@pytest.mark.parametrize(("text", "value"), [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("off", False)])
def test_a_switch_has_two_positions(text: str, value: bool) -> None:
    assert read_options({}, {"PYTUNNEL_NO_VERIFY": text}, None) == {"no-verify": value}


# Values that can't be used.


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("cert", "", "expected a value"),
        ("key", " ", "expected a value"),
        ("ca", "", "expected a value"),
        ("ciphers", "", "expected a value"),
        ("peer-name", "", "expected host names or IP addresses"),
        ("peer-name", "node1,,node2", "expected host names or IP addresses"),
        ("peer-name", "*.my.cluster", "expected host names or IP addresses, in full"),
        ("peer-name", "a\nb", "expected host names or IP addresses"),
        ("no-verify", "", "expected 1 or 0"),
        ("no-verify", "maybe", "expected 1 or 0"),
        ("tls-min", "1.1", "expected 1.2 or 1.3; older versions of TLS are not safe"),
        ("max-connections", "0", "expected a whole number above 0"),
        ("max-connections", "-1", "expected a whole number above 0"),
        ("max-connections", "2.5", "expected a number"),
        ("max-connections", "many", "expected a number"),
        ("handshake-timeout", "0", "expected a number of seconds above 0"),
        ("connect-timeout", "-1", "expected a number of seconds above 0"),
        ("idle-timeout", "nan", "expected a number of seconds above 0"),
        ("idle-timeout", "inf", "expected a number of seconds above 0"),
        ("drain-timeout", "10s", "expected a number"),
        ("drain-timeout", "", "expected a number"),
    ],
)
def test_a_bad_value_is_named_with_its_place_and_what_was_expected(
    name: str, text: str, expected: str, tmp_path: Path
) -> None:
    variable = "PYTUNNEL_" + name.upper().replace("-", "_")
    file = tmp_path / "pytunnel.toml"
    toml = text.replace("\n", "\\n")
    file.write_text(f'{name} = "{toml}"', encoding="utf-8")
    shown = repr(text)
    assert refusal({name: text}).startswith(f"--{name}: {shown} is not possible; {expected}")
    assert refusal(environment={variable: text}).startswith(f"{variable}: {shown} is not possible; {expected}")
    assert refusal(file=file).startswith(f"{name} in {file}: {shown} is not possible; {expected}")


def test_a_bad_value_that_another_place_overrides_does_no_harm() -> None:
    assert read_options({"tls-min": "1.3"}, {"PYTUNNEL_TLS_MIN": "1.0"}, None) == {"tls-min": "1.3"}


@pytest.mark.parametrize("text", ["cert = []", "cert = {}", "max-connections = [1]"])
def test_a_list_where_one_value_belongs_is_refused(text: str, tmp_path: Path) -> None:
    assert refusal(file=config(tmp_path, text)).endswith("expected one value")


# The file.


def test_a_file_that_is_no_toml_is_named_with_the_line(tmp_path: Path) -> None:
    said = refusal(file=config(tmp_path, "cert = 'a'\nkey = b\n"))
    assert f"{tmp_path}/pytunnel.toml is not TOML" in said
    assert "line 2" in said


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytunnel.toml").write_bytes(b'cert = "\xff"')
    assert "is not TOML" in refusal(file=tmp_path / "pytunnel.toml")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    assert refusal(file=tmp_path / "gone.toml").endswith("gone.toml can't be read: No such file or directory")


@given(st.text())
def test_any_text_in_the_environment_is_a_value_or_refused_in_one_line(text: str) -> None:
    said = ""
    for option in OPTIONS:
        try:
            read_options({}, {option.variable: text}, None)
        except ConfigurationError as error:
            said += str(error)
    assert said.isprintable()


values = st.text(max_size=5) | st.integers() | st.floats() | st.booleans() | st.lists(st.text(max_size=3), max_size=3)


@given(st.dictionaries(st.sampled_from(sorted(POSSIBLE)), values))
def test_any_values_of_a_file_are_a_plan_or_refused(content: dict[str, object]) -> None:
    with contextlib.suppress(PytunnelError):
        make_plan(Side.SERVER, ":1", ":2", read_options(content, {}, None))


# The plan.


def test_a_plan_without_options_has_safe_defaults() -> None:
    made = plan()
    assert made == TunnelPlan(
        side=Side.SERVER,
        source=TcpEndpoint("", 4444),
        target=TcpEndpoint("127.0.0.1", 873),
        tls=TlsSettings(verify=True, minimum="1.2"),
        sockets=SocketOptions(),
        limits=Limits(connections=1000, handshake=20, idle=None, drain=30),
    )


def test_every_option_has_its_place_in_the_plan() -> None:
    others = ("no-verify", "sockopt", "http-connect", "allow-target", "target-port")
    options = {name: value for name, (_, value) in POSSIBLE.items() if name not in others}
    made = make_plan(Side.CLIENT, "unix:/run/x", "node1:1", options)
    assert made.tls == TlsSettings(
        certificate=Path("/etc/node.pem"),
        key=Path("/etc/node.key"),
        ca=Path("/etc/ca.pem"),
        peer_names=("node1",),
        ciphers="HIGH",
        minimum="1.3",
    )
    assert made.limits == Limits(connections=7, handshake=5, idle=600, drain=1)
    assert made.sockets.connect_timeout == 2.5


GATEWAY: dict[str, Value] = {"http-connect": "127.0.0.1:8873", "allow-target": ("*.my.cluster:4444", "db1:4444")}


def test_http_connect_stands_for_both_ends() -> None:
    made = make_plan(Side.CLIENT, None, None, GATEWAY | {"target-port": 14444})
    allowed = AllowedTargets((AllowedTarget("*.my.cluster", 4444), AllowedTarget("db1", 4444)), 14444)
    assert (made.source, made.target) == (TcpEndpoint("127.0.0.1", 8873), allowed)


@pytest.mark.parametrize(
    ("side", "ends", "options", "said"),
    [
        (Side.SERVER, (None, None), GATEWAY, "--http-connect is for connect"),
        (Side.CLIENT, (":1", "db1:1"), GATEWAY, "takes the place of FROM and TO"),
        (Side.CLIENT, (None, None), {"http-connect": "127.0.0.1:1"}, "give --allow-target HOST:PORT"),
        (Side.CLIENT, (None, None), GATEWAY | {"peer-name": ("db1",)}, "each target's own name"),
        (Side.CLIENT, (None, None), GATEWAY | {"sockopt": "commonname=db1"}, "each target's own name"),
        (Side.CLIENT, (None, None), GATEWAY | {"http-connect": "stdio:"}, "no place where connections are accepted"),
        (Side.CLIENT, (":1", "db1:1"), {"allow-target": ("db1:1",)}, "--allow-target has a meaning with --http"),
        (Side.CLIENT, (":1", "db1:1"), {"target-port": 1}, "--target-port has a meaning with --http-connect"),
        (Side.CLIENT, (None, None), {}, "FROM and TO are needed"),
    ],
)
def test_what_http_connect_cannot_be_with_is_refused(
    side: Side, ends: tuple[str | None, str | None], options: dict[str, Value], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make_plan(side, *ends, options)


@pytest.mark.parametrize(
    "text",
    [
        *("*", "*:4444", "*.cluster:4444", "*.:4444", "a.*.cluster:1", "db*.my.cluster:1", "**.my.cluster:1"),
        *("db1", "db1:0", "db1:*", ":4444", "unix:/x", "stdio:", "*.192.0.2.1:1", "*.[::1]:1", "db1:4444,", ""),
    ],
)
def test_a_pattern_that_would_allow_more_than_it_says_is_refused(text: str) -> None:
    assert "expected HOST:PORT or *.DOMAIN:PORT" in refusal({"allow-target": text})


@pytest.mark.parametrize(
    ("pattern", "target", "allowed"),
    [
        ("*.my.cluster:4444", "node1.my.cluster:4444", True),
        ("*.my.cluster:4444", "NODE1.My.Cluster.:4444", True),
        ("*.my.cluster:4444", "node1.my.cluster:4445", False),
        ("*.my.cluster:4444", "a.node1.my.cluster:4444", False),
        ("*.my.cluster:4444", "my.cluster:4444", False),
        ("*.my.cluster:4444", "*.my.cluster:4444", False),
        ("*.my.cluster:4444", "node1.my.cluster.evil.example:4444", False),
        ("*.my.cluster:4444", "192.0.2.1:4444", False),
        ("db1:4444", "db1:4444", True),
        ("db1:4444", "db2:4444", False),
        ("192.0.2.1:4444", "192.0.2.1:4444", True),
        ("192.0.2.1:4444", "[::ffff:192.0.2.1]:4444", True),
        ("[2001:db8::1]:4444", "[2001:db8:0::1]:4444", True),
        ("192.0.2.1:4444", "192.0.2.10:4444", False),
        ("*.2.0.192:4444", "1.2.0.192:4444", False),
    ],
)
def test_a_pattern_allows_exactly_this(pattern: str, target: str, allowed: bool) -> None:
    place = parse_endpoint(target)
    assert isinstance(place, TcpEndpoint)
    assert parse_allowed(pattern).allows(place) is allowed


def test_words_of_socat_go_before_the_options() -> None:
    made = plan(cert="/a.pem", ca="/ca.pem", sockopt="cert=/b.pem,connect-timeout=3", connect_timeout=9.0)
    assert (made.tls.certificate, made.tls.ca, made.sockets.connect_timeout) == (Path("/b.pem"), Path("/ca.pem"), 3.0)


def test_an_address_in_socat_s_words_is_that_of_the_side_which_is_tls() -> None:
    words = "bind=10.0.0.1:99,pf=ip4,keepalive,backlog=7,range=10.0.0.0/8"
    listening, connecting = plan(sockopt=words), plan(Side.CLIENT, sockopt=words)
    secured, in_plain = listening.sockets, replace(listening.sockets, bind_host=None, bind_port=None, family=AF_UNSPEC)
    assert (secured.bind_host, secured.bind_port, secured.family) == ("10.0.0.1", 99, AF_INET)
    assert (listening.accepting, listening.dialling) == (secured, in_plain)
    assert (connecting.accepting, connecting.dialling) == (in_plain, secured)


def test_what_socat_s_words_do_otherwise_is_noted() -> None:
    assert plan(sockopt="min-version=TLS1.1").notes == (
        "sockopt: the minimum TLS1.1 is raised to TLS1.2: pytunnel speaks TLS 1.2 and later",
    )


@pytest.mark.parametrize("how", [("no-verify", True), ("sockopt", "verify=0")])
def test_expecting_a_name_without_verifying_is_refused(how: tuple[str, Value]) -> None:
    with pytest.raises(ConfigurationError, match="contradict each other"):
        make_plan(Side.SERVER, ":1", ":2", {"peer-name": ("node1",), how[0]: how[1]})


def test_words_that_are_unknown_are_refused() -> None:
    with pytest.raises(SockoptError, match="'fork'"):
        plan(sockopt="fork")


@pytest.mark.parametrize(("source", "target"), [("4444", ":1"), (":1", "http://x")])
def test_places_that_cannot_be_understood_are_refused(source: str, target: str) -> None:
    with pytest.raises(EndpointError):
        plan(source=source, target=target)


def test_standard_input_and_output_cannot_be_both_ends() -> None:
    with pytest.raises(ConfigurationError, match="there is one standard input and output"):
        plan(source="stdio:", target="-")


@pytest.mark.parametrize(
    ("source", "target", "one"),
    [
        (":1", ":2", False),
        (":1", "exec:cat", False),
        ("unix:/a", "unix:/b", False),
        ("stdio:", ":2", True),
        ("exec:cat", ":2", True),
        (":1", "stdio:", True),
    ],
)
def test_it_is_known_whether_there_is_one_connection_only(source: str, target: str, one: bool) -> None:
    assert plan(source=source, target=target).carries_one_connection == one


def test_places_are_parsed_into_the_plan() -> None:
    made = plan(source="stdio:", target="exec:rsync --server .")
    assert (made.source, made.target) == (StdioEndpoint(), ExecEndpoint(("rsync", "--server", ".")))
