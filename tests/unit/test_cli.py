"""The command line: its help, its errors, its exit codes. What the commands do is in tests/integration."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from lab.certificates import self_signed
from pytunnel import __version__
from pytunnel.cli import main as cli
from pytunnel.errors import PytunnelError
from pytunnel.service import running as service
from pytunnel.service.configuration import TunnelPlan, near_misses
from pytunnel.service.options import OPTIONS, PROCESS_OPTIONS, ROUTE
from pytunnel.service.plan import ServicePlan
from pytunnel.tls.context import Side
from tests.support.credentials import settings_of

pytestmark = pytest.mark.usefixtures("own_logging")

NODE1 = self_signed("node1")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PYTUNNEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTUNNEL_CONFINE", "off")  # for good, in this process, in which the next test runs too


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What a call prints that ends well before it does anything."""
    with pytest.raises(SystemExit) as caught:
        cli.run(argv)
    out, err = capsys.readouterr()
    assert (caught.value.code, err) == (0, "")
    return out


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Exit code and the one line of a call that fails."""
    try:
        code: object = cli.run(argv)
    except SystemExit as ended:
        code = ended.code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err[:-1].isprintable(), err
    assert isinstance(code, int)
    return code, err[:-1]


# Help.


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--version") == f"pytunnel {__version__}\n"


def commands_of(text: str) -> list[list[str]]:
    """The calls of pytunnel in a help's examples, as a shell splits them."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"^ +(pytunnel .*)$", joined, re.MULTILINE)]


def test_the_help_shows_an_example_of_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert {command[0] for command in commands_of(shown(capsys, "--help"))} >= {"listen", "connect"}


@pytest.mark.parametrize("command", ["listen", "connect", "run", "demo"])
def test_each_command_s_help_shows_an_example_of_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = commands_of(shown(capsys, command, "--help"))
    assert examples
    assert {example[0] for example in examples} == {command}


@pytest.mark.parametrize("command", ["listen", "connect"])
def test_the_examples_are_possible(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = commands_of(shown(capsys, command, "--help"))
    planned: list[TunnelPlan] = []

    async def run(plan: ServicePlan) -> int:
        planned.extend(plan.tunnels)
        return 0

    monkeypatch.setattr(service, "run", run)
    assert [cli.run(example) for example in examples] == [0] * len(examples)
    assert {plan.side for plan in planned} == {Side.SERVER if command == "listen" else Side.CLIENT}


def test_the_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "listen", "--help")
    assert [option.name for option in (*OPTIONS, *PROCESS_OPTIONS) if f"--{option.name}" not in text] == []


@pytest.mark.parametrize("option", ["http-connect", "allow-target", "target-port", "proxy"])
def test_the_help_marks_what_is_for_connect_alone(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(rf"--{option} \S+\s+connect: ", shown(capsys, "listen", "--help"))


def test_options_may_stand_between_the_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[TunnelPlan] = []

    async def run(plan: ServicePlan) -> int:
        planned.extend(plan.tunnels)
        return 0

    monkeypatch.setattr(service, "run", run)
    assert cli.run(["connect", ":1", "--cert", "x", "node2:2"]) == 0
    assert [(str(plan.source), str(plan.target)) for plan in planned] == [(":1", "node2:2")]


# Errors.


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "pytunnel: the following arguments are required: COMMAND; see pytunnel --help"),
        (["listen"], "pytunnel listen: the following arguments are required: FROM, TO; see pytunnel listen --help"),
        (["listen", ":1"], "the following arguments are required: TO"),
        (["listen", ":1", ":2", ":3"], "unrecognized arguments: :3"),
        (["listen", "--nonsense", ":1", ":2"], "unrecognized arguments: --nonsense"),
        (
            ["listen", "--crt", "x", ":1", ":2"],
            "pytunnel listen: unrecognized arguments: --crt (did you mean --cert?); see pytunnel listen --help",
        ),
        (
            ["connect", "--peer_name=a", ":1", ":2"],
            "--peer_name=a (did you mean --peer-name?); see pytunnel connect --",
        ),
        (["certs", "node", "--rsaa", "2048", "node1"], "pytunnel certs node: unrecognized arguments: --rsaa (did you"),
        (["connect", ":1"], "pytunnel: connect needs TO: where to accept connections, then where to carry them; or --"),
        (["connect"], "pytunnel: connect needs FROM and TO: where to accept"),
        (["listen", ":1", ":2", "a\nb"], "unrecognized arguments: a\\nb"),
        (["fly"], "invalid choice: 'fly'"),
        (["listen", "--log-format", "xml", ":1", ":2"], "--log-format: 'xml' is not possible; expected plain or json"),
        (["listen", "--cert"], "argument --cert: expected one argument"),
        (["listen", ":1", "nowhere"], "pytunnel: endpoint 'nowhere' has no port"),
        (["listen", "--tls-min", "1.0", ":1", ":2"], "--tls-min: '1.0' is not possible; expected 1.2 or 1.3"),
        (["listen", "--no-verify", "--peer-name", "a", ":1", ":2"], "contradict each other"),
        (["listen", "--config", "/nowhere.toml", ":1", ":2"], "/nowhere.toml can't be read"),
        (["connect", "stdio:", "stdio:"], "there is one standard input and output"),
    ],
)
def test_a_call_that_cannot_be_understood_ends_with_2_and_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = refused(capsys, *argv)
    assert code == 2
    assert said in line


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["listen", "--sockopt", "fork", ":1", ":2"], 22, "sockopt: the word 'fork' has no meaning here"),
        (["listen", ":1", ":2"], 22, "no certificate is configured"),
        (["listen", "--cert", "/nowhere.pem", ":1", ":2"], 2, "the certificate file /nowhere.pem does not exist"),
    ],
)
def test_credentials_and_words_that_cannot_be_used_end_with_their_own_code(
    argv: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *argv)[0] == code
    assert said in refused(capsys, *argv)[1]


def test_a_line_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    _, line = refused(capsys, "listen", "--cert", "/nowhere\npytunnel: all is well", ":1", ":2")
    assert "/nowhere\\npytunnel: all is well does not exist" in line


def test_a_place_without_a_name_needs_one_for_the_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_of(tmp_path / "node1", NODE1, [NODE1])
    code, line = refused(
        capsys, "connect", "--cert", str(settings.certificate), "--ca", str(settings.ca), ":0", "unix:/run/x"
    )
    assert (code, line.endswith("unix:/run/x has no host name to check the peer against; give --peer-name")) == (
        2,
        True,
    )


def test_a_bad_log_format_in_the_environment_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTUNNEL_LOG_FORMAT", "xml")
    assert refused(capsys, "listen", ":1", ":2") == (
        2,
        "pytunnel: PYTUNNEL_LOG_FORMAT: 'xml' is not possible; expected plain or json",
    )


def test_a_configuration_file_may_be_named_in_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTUNNEL_CONFIG", "/nowhere.toml")
    assert "/nowhere.toml can't be read" in refused(capsys, "listen", ":1", ":2")[1]


def test_a_traceback_is_shown_to_those_who_debug() -> None:
    with pytest.raises(PytunnelError):
        cli.run(["listen", "--debug", ":1", "nowhere"])


def test_an_interrupt_before_the_start_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> ServicePlan:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytunnel.service.plan.plan_service", interrupted)
    assert cli.run(["listen", ":1", ":2"]) == 130


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_the_tunnel_s(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: ServicePlan) -> int:
        return code

    monkeypatch.setattr(service, "run", run)
    assert cli.run(["connect", "stdio:", ":2"]) == code


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["listen", "--log-format", "json", ":1", "nowhere"], "endpoint 'nowhere' has no port"),
        (["--log-format=json"], "the following arguments are required: COMMAND"),
        (["listen", "--log-format=json", ":1"], "the following arguments are required: TO"),
        (["run", "--log-format", "json"], "there is nothing to run"),
    ],
)
def test_a_machine_reads_of_a_bad_start_in_json(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, *argv)
    event = json.loads(line)
    assert (code, event["level"], event["program"].split()[0]) == (2, "error", "pytunnel")
    assert said in event["message"]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["listen", "--no-v", ":1", ":2"], "--no-v"),
        (["run", "--work", "2"], "--work"),
        (["certs", "node", "--r", "2048", "node1"], "--r"),
    ],
)
def test_an_abbreviation_is_no_option(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, *argv)
    assert code == 2
    assert f"unrecognized arguments: {named}" in line


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PYTUNNEL_PEER_NAMES", "PYTUNNEL_PEER_NAME"),
        ("PYTUNNEL_CERTS", "PYTUNNEL_CERT"),
        ("PYTUNNEL_NOVERIFY", "PYTUNNEL_NO_VERIFY"),
    ],
)
def test_a_variable_that_is_nearly_a_setting_is_found(name: str, meant: str) -> None:
    assert list(near_misses((*OPTIONS, *PROCESS_OPTIONS, *ROUTE), {name: "x"})) == [(name, meant)]


@pytest.mark.parametrize(
    "name",
    ["PYTUNNEL_PEER_NAME", "PYTUNNEL_CONFIG", "PYTUNNEL_PORT_4444_TCP_ADDR", "PYTUNNEL_PORT", "MY_PYTUNNEL_CERTS"],
)
def test_a_setting_and_kubernetes_own_variables_are_no_near_misses(name: str) -> None:
    assert list(near_misses((*OPTIONS, *PROCESS_OPTIONS, *ROUTE), {name: "x"})) == []
