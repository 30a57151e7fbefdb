"""The `pytunnel` command: words of people in, exit codes and one-line errors out."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from pytunnel import __version__, logs
from pytunnel.cli_certs import add_certs
from pytunnel.cli_command import CommandParser, Commands, add_command
from pytunnel.cli_doctor import add_doctor
from pytunnel.configuration import OPTIONS, ConfigurationError, make_plan, read_options
from pytunnel.errors import PytunnelError
from pytunnel.service_plan import ServicePlan
from pytunnel.tls.context import Side

_DESCRIPTION = "Carry any TCP service, and Galera state snapshots, inside mutual TLS."

_PLACES = """\
FROM and TO are HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH, exec:COMMAND (one process for each connection) or stdio:.
Every option can also be set as PYTUNNEL_… in the environment (PYTUNNEL_CERT), or in a TOML file (--config).
"""

_LISTEN_EXAMPLES = """\
examples:
  TLS in, plain out, to an rsync daemon on this host:
    pytunnel listen --cert node2.pem --ca bundle.crt node2.my.cluster:4444 127.0.0.1:873

  one process for each connection, and only two peers:
    pytunnel listen --cert node2.pem --ca bundle.crt --peer-name node1.my.cluster --peer-name node3.my.cluster \\
        :4444 'exec:rsync --daemon --config=/etc/rsyncd.conf'
"""

_CONNECT_EXAMPLES = """\
examples:
  plain in, TLS out, the peer's certificate must say node2.my.cluster:
    pytunnel connect --cert node1.pem --ca bundle.crt 127.0.0.1:4444 node2.my.cluster:4444

  a private way to a MariaDB server behind a listening pytunnel:
    pytunnel connect --cert me.pem --ca bundle.crt unix:/run/db.sock db1.my.cluster:3307
"""

_LOG_FORMATS = ("plain", "json")

_DEMO_EXAMPLES = """\
example:
  pytunnel demo --size 500
"""


def main() -> None:
    """Entry point of the `pytunnel` program."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Do what the arguments say; returns the process's exit code. Errors become one line on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        command: Callable[[argparse.Namespace], int] = arguments.run
        return command(arguments)
    except PytunnelError as error:
        if arguments.debug:
            raise
        print(f"pytunnel: {logs.one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:  # before the tunnel takes care of signals
        return 128 + signal.SIGINT


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="pytunnel",
        description=_DESCRIPTION,
        epilog=_LISTEN_EXAMPLES + "\n" + _CONNECT_EXAMPLES.removeprefix("examples:\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pytunnel {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_tunnel(commands, "listen", "accept TLS at FROM, carry it in plain to TO", _LISTEN_EXAMPLES, _run_listen)
    _add_tunnel(commands, "connect", "accept plain at FROM, carry it in TLS to TO", _CONNECT_EXAMPLES, _run_connect)
    add_certs(commands)
    add_doctor(commands)
    demo = add_command(commands, "demo", "show a transfer of a directory between two ends here", _DEMO_EXAMPLES)
    demo.add_argument("--size", metavar="MB", type=int, default=200, help="megabytes to transfer (default 200)")
    demo.set_defaults(run=_run_demo)
    return parser


def _add_tunnel(
    commands: Commands,
    name: str,
    summary: str,
    examples: str,
    handler: Callable[[argparse.Namespace], int],
) -> None:
    parser = add_command(commands, name, summary, f"{_PLACES}\n{examples}")
    parser.add_argument("source", metavar="FROM", help="where connections are accepted")
    parser.add_argument("target", metavar="TO", help="where they are carried to")
    for option in OPTIONS:
        if option.metavar is None:
            parser.add_argument(f"--{option.name}", action="store_const", const="1", help=option.help)
        elif option.repeatable:
            parser.add_argument(f"--{option.name}", action="append", metavar=option.metavar, help=option.help)
        else:
            parser.add_argument(f"--{option.name}", metavar=option.metavar, help=option.help)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with any of the options above")
    parser.add_argument("--log-format", choices=_LOG_FORMATS, help="form of the log on standard error")
    parser.set_defaults(run=handler)


def _run_listen(arguments: argparse.Namespace) -> int:
    return _run_tunnel(Side.SERVER, arguments)


def _run_connect(arguments: argparse.Namespace) -> int:
    return _run_tunnel(Side.CLIENT, arguments)


def _run_tunnel(side: Side, arguments: argparse.Namespace) -> int:
    from pytunnel import service

    log_format = arguments.log_format or os.environ.get("PYTUNNEL_LOG_FORMAT", "plain")
    if log_format not in _LOG_FORMATS:
        raise ConfigurationError(f"PYTUNNEL_LOG_FORMAT: {log_format!r} is not possible; expected plain or json")
    logs.set_up("json" if log_format == "json" else "plain", debug=arguments.debug)
    given = {option.name: getattr(arguments, option.name.replace("-", "_")) for option in OPTIONS}
    options = read_options(given, os.environ, arguments.config or _config_from_environment())
    plan = make_plan(side, arguments.source, arguments.target, options)
    return trio.run(service.run, ServicePlan((plan,)))


def _config_from_environment() -> Path | None:
    path = os.environ.get("PYTUNNEL_CONFIG")
    return Path(path) if path else None


def _run_demo(arguments: argparse.Namespace) -> int:
    from pytunnel import demo

    return demo.run(arguments.size)
