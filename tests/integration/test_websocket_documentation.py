"""docs/websocket.md: its commands and options as written; its nginx and haproxy are what the other tests run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import trio

from pytunnel.service.plan import plan_service
from pytunnel.sst.address import Address
from pytunnel.sst.optionfile import read_group
from pytunnel.sst.request import parse_request
from pytunnel.sst.route import Route, read_route, read_web_options
from pytunnel.transport.endpoint import WebSocketEndpoint
from pytunnel.transport.options import SocketOptions
from tests.support.programs import needs
from tests.support.webproxies import example

COMMANDS = re.findall(r"^pytunnel (.*)$", example("commands").replace("\\\n", ""), re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_can_be_started_as_written(line: str) -> None:
    command, *words = shlex.split(line)
    *options, source, target = words
    given = dict(zip((option.removeprefix("--") for option in options[::2]), options[1::2], strict=True))
    plan = plan_service({"mode": command, "from": source, "to": target} | given, {}, None).tunnels[0]
    ends = {"listen": plan.source, "connect": plan.target}
    assert isinstance(ends[command], WebSocketEndpoint)
    assert plan.notes == ()


def test_both_commands_are_there() -> None:
    assert [line.split()[0] for line in COMMANDS] == ["listen", "connect"]


@needs("my_print_defaults")
def test_the_options_of_a_state_transfer_are_understood(tmp_path: Path) -> None:
    defaults = tmp_path / "my.cnf"
    defaults.write_text(re.sub("^# (outer-ca|header|proxy)", r"\1", example("sst"), flags=re.MULTILINE))
    words = ["--role", "joiner", "--address", "node2.my.cluster", "--datadir", str(tmp_path)]
    request = parse_request([*words, "--defaults-file", str(defaults)], {})

    async def read() -> tuple[Route, SocketOptions]:
        sst = await read_group(request, "sst")
        return read_route(sst), read_web_options(sst, SocketOptions())

    route, sockets = trio.run(read)
    assert str(route.to(Address("node2.my.cluster"))) == "wss://edge.example:443/sst/node2.my.cluster"
    assert str(route.listen) == "ws://0.0.0.0:8080/sst/node2.my.cluster"
    assert [name for name, _ in sockets.web.headers] == ["Authorization"]
    assert str(sockets.proxy) == "proxy.example:3128"
