"""The `pytunnel` command: words of people in, exit codes and one-line errors out."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from pytunnel import __version__
from pytunnel.cli.certs import add_certs
from pytunnel.cli.command import CommandParser, Commands, add_command
from pytunnel.cli.doctor import add_doctor
from pytunnel.cli.status import add_status
from pytunnel.errors import PytunnelError
from pytunnel.service.options import OPTIONS, PROCESS_OPTIONS, ROUTE
from pytunnel.system import init, logs

log = logging.getLogger(__name__)

_DESCRIPTION = "Carry any TCP service, and Galera state snapshots, inside mutual TLS."

_PLACES = """\
FROM and TO are HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH, exec:COMMAND (one process for each connection) or stdio:.
Where only HTTP passes, FROM of listen can be ws://HOST:PORT/PATH, TO of connect that or wss://HOST:PORT/PATH.
Every option but --debug can also be set as PYTUNNEL_… in the environment (PYTUNNEL_CERT), and all but these two in
the TOML file of --config.
"""

_LISTEN_EXAMPLES = """\
examples:
  TLS in, plain out, to an rsync daemon on this host:
    pytunnel listen --cert node2.pem --ca bundle.crt node2.my.cluster:4444 127.0.0.1:873

  the same inside WebSockets, behind a proxy that ends the outer TLS:
    pytunnel listen --cert node2.pem --ca bundle.crt ws://0.0.0.0:8080/sst/node2.my.cluster 127.0.0.1:873

  one process for each connection, and only two peers:
    pytunnel listen --cert node2.pem --ca bundle.crt --peer-name node1.my.cluster --peer-name node3.my.cluster \\
        :4444 'exec:rsync --daemon --config=/etc/rsyncd.conf'
"""

_CONNECT_EXAMPLES = """\
examples:
  plain in, TLS out, the peer's certificate must say node2.my.cluster:
    pytunnel connect --cert node1.pem --ca bundle.crt 127.0.0.1:4444 node2.my.cluster:4444

  TLS inside a WebSocket, through an ingress; the token is in the environment (PYTUNNEL_HEADER):
    pytunnel connect --cert node1.pem --ca bundle.crt --peer-name node2.my.cluster \\
        127.0.0.1:4444 wss://edge.example:443/sst/node2.my.cluster

  a private way to a MariaDB server behind a listening pytunnel:
    pytunnel connect --cert me.pem --ca bundle.crt unix:/run/db.sock db1.my.cluster:3307

  to whichever node a local program names, as the server's own rsync method does with RSYNC_PROXY=127.0.0.1:8873:
    pytunnel connect --cert node1.pem --ca bundle.crt --http-connect 127.0.0.1:8873 --allow-target '*.my.cluster:4444'
"""

_RUN_EXAMPLES = """\
The file sets options, and describes one tunnel by mode, from and to, or several:
    [[tunnel]]
    name = "sst"
    mode = "listen"
    from = ":4444"
    to = "127.0.0.1:873"

examples:
    pytunnel run --config /etc/pytunnel.toml --status :9090

  everything from the environment, with PYTUNNEL_MODE, PYTUNNEL_FROM, PYTUNNEL_TO, PYTUNNEL_CERT and so on:
    pytunnel run
"""

_DEMO_EXAMPLES = """\
example:
  pytunnel demo --size 500
"""


def main() -> None:
    """Entry point of the `pytunnel` program."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Do what the arguments say; returns the process's exit code. Errors become one line on standard error."""
    logs.set_up(_log_format(argv))
    arguments = _parser().parse_args(argv)
    try:
        command: Callable[[argparse.Namespace], int] = arguments.run
        code = command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads it has seen enough
        _forget_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _forget_output()
        logs.complain("pytunnel", f"can't write to standard output: {error.strerror}")
        return 1
    except PytunnelError as error:
        if arguments.debug:
            raise
        logs.complain("pytunnel", str(error))
        return error.exit_code
    except KeyboardInterrupt:  # before the tunnel takes care of signals
        return 128 + signal.SIGINT


def _forget_output() -> None:
    """Else Python would try once more at its end to write what could not be written."""
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a descriptor is wanted, not a path
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _log_format(argv: Sequence[str]) -> logs.Format:
    """The form of the log before anything else is known: what is wrong with the other arguments is said in it too."""
    words = [word.removeprefix("--log-format=") for word in argv if word.startswith("--log-format=")]
    words += [following for word, following in pairwise(argv) if word == "--log-format"]
    return logs.format_of((words or [os.environ.get("PYTUNNEL_LOG_FORMAT", "")])[-1])


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="pytunnel",
        description=_DESCRIPTION,
        epilog=_LISTEN_EXAMPLES + "\n" + _CONNECT_EXAMPLES.removeprefix("examples:\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pytunnel {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_tunnel(commands, "listen", "accept TLS at FROM, carry it in plain to TO", _LISTEN_EXAMPLES)
    _add_tunnel(commands, "connect", "accept plain at FROM, carry it in TLS to TO", _CONNECT_EXAMPLES)
    run_many = add_command(
        commands, "run", "run the tunnels that a file or the environment describes", f"{_PLACES}\n{_RUN_EXAMPLES}"
    )
    _add_options(run_many)
    run_many.set_defaults(run=_run_tunnels)
    add_certs(commands)
    add_doctor(commands)
    add_status(commands)
    demo = add_command(commands, "demo", "show a transfer of a directory between two ends here", _DEMO_EXAMPLES)
    demo.add_argument("--size", metavar="MB", type=int, default=200, help="megabytes to transfer (default 200)")
    demo.set_defaults(run=_run_demo)
    return parser


def _add_tunnel(
    commands: Commands,
    name: str,
    summary: str,
    examples: str,
) -> None:
    parser = add_command(commands, name, summary, f"{_PLACES}\n{examples}")
    source = parser.add_argument("source", metavar="FROM", help="where connections are accepted")
    target = parser.add_argument("target", metavar="TO", help="where they are carried to")
    # --http-connect takes the place of both. With nargs="?" argparse takes none for TO where an option follows FROM.
    source.required = target.required = name != "connect"
    _add_options(parser)
    parser.set_defaults(run=partial(_run_tunnel, name))


def _add_options(parser: CommandParser) -> None:
    for option in (*OPTIONS, *PROCESS_OPTIONS):
        if option.metavar is None:
            parser.add_argument(f"--{option.name}", action="store_const", const="1", help=option.help)
        elif option.repeatable:
            parser.add_argument(f"--{option.name}", action="append", metavar=option.metavar, help=option.help)
        else:
            parser.add_argument(f"--{option.name}", metavar=option.metavar, help=option.help)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with any of the options above")


def _run_tunnel(mode: str, arguments: argparse.Namespace) -> int:
    return _serve(arguments, {"mode": mode, "from": arguments.source, "to": arguments.target})


def _run_tunnels(arguments: argparse.Namespace) -> int:
    return _serve(arguments, None)


def _serve(arguments: argparse.Namespace, route: Mapping[str, object] | None) -> int:
    """Run one tunnel with this route, or those that the environment or a file describes."""
    import trio

    from pytunnel.service import running
    from pytunnel.service.configuration import near_misses
    from pytunnel.service.plan import plan_service

    given = {option.name: getattr(arguments, option.name.replace("-", "_")) for option in (*OPTIONS, *PROCESS_OPTIONS)}
    file = arguments.config or _config_from_environment()
    plan = plan_service(given | dict(route or {}), os.environ, file, tables=route is None)
    logs.set_up(plan.log_format, debug=arguments.debug)
    for name, meant in near_misses((*OPTIONS, *PROCESS_OPTIONS, *ROUTE), os.environ):
        log.warning("%s is no setting of pytunnel's, and is ignored; is %s meant?", name, meant)
    if init.is_first_process():
        init.go_on_as_child()
    if plan.workers > 1:
        from pytunnel.service.workers import supervisor

        return trio.run(partial(supervisor.run, plan, debug=arguments.debug))
    return trio.run(running.run, plan)


def _config_from_environment() -> Path | None:
    path = os.environ.get("PYTUNNEL_CONFIG")
    return Path(path) if path else None


def _run_demo(arguments: argparse.Namespace) -> int:
    from pytunnel.cli import demo

    return demo.run(arguments.size)
