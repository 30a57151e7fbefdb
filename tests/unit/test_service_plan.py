"""What one process runs: one tunnel or several, from the command line, the environment and a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pytunnel.errors import PytunnelError
from pytunnel.service.confinement import rules_for
from pytunnel.service.plan import ServicePlan, TunnelError, about, plan_service
from pytunnel.status.address import parse_status_address
from pytunnel.tls.context import Side
from pytunnel.transport.endpoint import TcpEndpoint, UnixEndpoint

TWO = """\
cert = "/etc/node2.pem"
ca = "/etc/bundle.crt"
drain-timeout = 7

[[tunnel]]
name = "sst"
mode = "listen"
from = ":4444"
to = "127.0.0.1:873"
peer-name = ["node1.my.cluster"]

[[tunnel]]
mode = "connect"
from = "unix:/run/db.sock"
to = "db1.my.cluster:3307"
cert = "/etc/client.pem"
"""

ONE = {"mode": "listen", "from": ":1", "to": ":2"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pytunnel.toml"


def plan_of(file: Path, text: str, environment: Mapping[str, str] | None = None, **arguments: str) -> ServicePlan:
    file.write_text(text)
    return plan_service(arguments, environment or {}, file)


def refusal(
    file: Path, text: str, environment: Mapping[str, str] | None = None, arguments: Mapping[str, str] | None = None
) -> str:
    file.write_text(text)
    with pytest.raises(PytunnelError) as caught:
        plan_service(arguments or {}, environment or {}, file)
    assert str(caught.value).isprintable()
    return str(caught.value)


# One tunnel.


def test_one_tunnel_comes_from_the_command_line() -> None:
    (tunnel,) = plan_service(ONE, {}, None).tunnels
    assert (tunnel.side, tunnel.source, tunnel.name) == (Side.SERVER, TcpEndpoint("", 1), "")


def test_one_tunnel_comes_from_the_environment_alone() -> None:
    environment = {
        "PYTUNNEL_MODE": "connect",
        "PYTUNNEL_FROM": "unix:/run/x",
        "PYTUNNEL_TO": "node1:4444",
        "PYTUNNEL_CERT": "/etc/node2.pem",
        "PYTUNNEL_STATUS": ":9090",
        "PYTUNNEL_LOG_FORMAT": "json",
    }
    plan = plan_service({}, environment, None)
    (tunnel,) = plan.tunnels
    assert (tunnel.side, tunnel.source, tunnel.target) == (
        Side.CLIENT,
        UnixEndpoint("/run/x"),
        TcpEndpoint("node1", 4444),
    )
    assert tunnel.tls.certificate == Path("/etc/node2.pem")
    assert (plan.status, plan.log_format) == (TcpEndpoint("127.0.0.1", 9090), "json")


def test_one_tunnel_comes_from_the_top_of_a_file(file: Path) -> None:
    plan = plan_of(file, 'mode = "listen"\nfrom = ":1"\nto = ":2"\nca = "/ca.crt"\nstatus = "unix:/run/status"')
    assert (plan.tunnels[0].source, plan.tunnels[0].tls.ca) == (TcpEndpoint("", 1), Path("/ca.crt"))
    assert plan.status == UnixEndpoint("/run/status")


def test_what_is_missing_is_named_as_the_environment_calls_it() -> None:
    with pytest.raises(PytunnelError, match="nothing to run without PYTUNNEL_MODE, PYTUNNEL_TO;"):
        plan_service({}, {"PYTUNNEL_FROM": ":1"}, None)


def test_a_mode_that_is_unknown_is_named() -> None:
    with pytest.raises(PytunnelError, match="PYTUNNEL_MODE: 'both' is not possible; expected listen or connect"):
        plan_service({}, {"PYTUNNEL_MODE": "both"}, None)


def test_an_option_that_is_unknown_is_named_with_those_that_are_known(file: Path) -> None:
    said = refusal(file, 'cert = "a"\npeer_name = "node1"', arguments=ONE)
    assert "sets 'peer_name', which is no option; possible are cert, key, ca, peer-name, no-verify," in said


def test_a_table_is_no_option(file: Path) -> None:
    assert "sets 'tls', which is no option" in refusal(file, '[tls]\ncert = "a"', arguments=ONE)


# Several tunnels.


def test_several_tunnels_come_from_one_file(file: Path) -> None:
    first, second = plan_of(file, TWO).tunnels
    assert (first.name, first.side, first.source) == ("sst", Side.SERVER, TcpEndpoint("", 4444))
    assert (second.name, second.side, second.source) == ("tunnel-2", Side.CLIENT, UnixEndpoint("/run/db.sock"))


def test_options_at_the_top_are_defaults_of_each_tunnel(file: Path) -> None:
    first, second = plan_of(file, TWO).tunnels
    assert (first.tls.certificate, second.tls.certificate) == (Path("/etc/node2.pem"), Path("/etc/client.pem"))
    assert (first.limits.drain, second.limits.drain) == (7, 7)
    assert (first.tls.peer_names, second.tls.peer_names) == (("node1.my.cluster",), ())


def test_the_environment_goes_before_a_tunnel_s_own_options_and_the_command_line_before_that(file: Path) -> None:
    environment = {"PYTUNNEL_CERT": "environment", "PYTUNNEL_CA": "environment"}
    _, second = plan_of(file, TWO, environment, ca="arguments").tunnels
    assert (second.tls.certificate, second.tls.ca) == (Path("environment"), Path("arguments"))


def test_a_file_with_several_tunnels_is_not_for_a_command_that_describes_one(file: Path) -> None:
    file.write_text(TWO)
    with pytest.raises(PytunnelError, match=r"describes tunnels of its own .*; run them with: pytunnel run"):
        plan_service(ONE, {}, file, tables=False)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"127.0.0.1:873"', '"nowhere"', "tunnel sst of {file}: endpoint 'nowhere' has no port"),
        ('"connect"', '"both"', "mode in tunnel tunnel-2 of {file}: 'both' is not possible; expected listen or"),
        ('cert = "/etc/client.pem"', "cert = []", "cert in tunnel tunnel-2 of {file}: expected one"),
        ('cert = "/etc/client.pem"', "crt = 1", "tunnel tunnel-2 of {file} sets 'crt', which is no option; possible"),
        (
            'cert = "/etc/client.pem"',
            'status = ":1"',
            "tunnel tunnel-2 of {file} sets 'status', which is the process's",
        ),
        (
            'name = "sst"',
            "workers = 2",
            "tunnel tunnel-1 of {file} sets 'workers', which is the process's; put it at the",
        ),
        ('to = "127.0.0.1:873"', "", "tunnel sst of {file} has no to; expected mode, from and to in each [[tunnel]]"),
        ('name = "sst"', 'name = "a b"', "name in tunnel 1 of {file}: 'a b' is not possible; expected letters,"),
        ('name = "sst"', "name = 1", "name in tunnel 1 of {file}: 1 is not possible"),
        ('name = "sst"', 'name = "tunnel-2"', "{file} has two tunnels with the name tunnel-2"),
        ('"unix:/run/db.sock"', '":4444"', "the tunnels sst and tunnel-2 of {file} are both at :4444"),
        ('"unix:/run/db.sock"', '":5"\nhttp-connect = ":1"', "tunnel tunnel-2 of {file}: --http-connect is for"),
        ("cert = ", 'from = ":9"\ncert = ', "from in {file} is set, but each [[tunnel]] of {file} has its own"),
    ],
)
def test_what_is_wrong_is_named_with_the_tunnel_and_the_file(before: str, after: str, said: str, file: Path) -> None:
    assert before in TWO
    assert refusal(file, TWO.replace(before, after, 1)).startswith(said.format(file=file))


def test_a_route_in_the_environment_is_not_for_several_tunnels(file: Path) -> None:
    assert refusal(file, TWO, {"PYTUNNEL_MODE": "listen"}).startswith("PYTUNNEL_MODE is set, but each [[tunnel]]")


@pytest.mark.parametrize("text", ["tunnel = 1", "tunnel = []", "[tunnel]\nmode = 'listen'", "tunnel = [1]"])
def test_what_is_no_list_of_tables_is_refused(text: str, file: Path) -> None:
    assert refusal(file, text) == f"{file}: expected tables [[tunnel]], one for each tunnel"


def test_port_0_may_be_asked_for_more_than_once(file: Path) -> None:
    text = TWO.replace('"unix:/run/db.sock"', '":0"').replace(":4444", ":0")
    assert len(plan_of(file, text).tunnels) == 2


def test_standard_input_belongs_to_one_tunnel(file: Path) -> None:
    text = TWO.replace('"unix:/run/db.sock"', '"stdio:"').replace('"127.0.0.1:873"', '"-"')
    assert "the tunnels sst and tunnel-2" in refusal(file, text)


def test_an_error_about_one_of_several_tunnels_keeps_its_exit_code() -> None:
    cause = PytunnelError("the file is missing")
    cause.exit_code = 22
    with pytest.raises(TunnelError, match=r"^tunnel sst: the file is missing$") as caught, about("tunnel sst"):
        raise cause
    assert caught.value.exit_code == 22


def test_an_error_about_the_only_tunnel_stays_as_it_is() -> None:
    cause = PytunnelError("the file is missing")
    with pytest.raises(PytunnelError) as caught, about(""):
        raise cause
    assert caught.value is cause


# The address of the status.


@pytest.mark.parametrize(
    ("text", "host"), [(":9090", "127.0.0.1"), ("10.0.0.1:9090", "10.0.0.1"), ("[::1]:9090", "::1")]
)
def test_others_can_look_only_where_that_was_asked_for(text: str, host: str) -> None:
    assert parse_status_address(text) == TcpEndpoint(host, 9090)


@pytest.mark.parametrize("text", ["9090", "exec:cat", "stdio:", "", "unix:"])
def test_what_is_no_address_for_status_is_refused(text: str) -> None:
    with pytest.raises(PytunnelError, match=r"PYTUNNEL_STATUS: .* is not possible; expected HOST:PORT, :PORT"):
        plan_service(ONE, {"PYTUNNEL_STATUS": text}, None)


def test_certificates_behind_links_in_a_circle_are_left_to_who_reads_them(tmp_path: Path) -> None:
    loop = tmp_path / "loop.pem"
    loop.symlink_to("loop.pem")
    assert tmp_path in rules_for(plan_service(ONE | {"cert": str(loop)}, {}, None)).paths


@pytest.mark.parametrize(("first", "second", "possible"), [("a", "b", True), ("a", "a", False), ("a", "", False)])
def test_what_systemd_passes_is_of_one_tunnel_each(file: Path, first: str, second: str, possible: bool) -> None:
    tables = [f'[[tunnel]]\nmode = "listen"\nfrom = "systemd:{name}"\nto = ":873"\n' for name in (first, second)]
    file.write_text("".join(tables))
    if possible:
        assert len(plan_service({}, {}, file).tunnels) == 2
    else:
        with pytest.raises(PytunnelError, match=r"are both at systemd:a|give each systemd:NAME"):
            plan_service({}, {}, file)
