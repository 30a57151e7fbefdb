"""`pytunnel status`: its words."""

from __future__ import annotations

from pathlib import Path

from pytunnel.cli.command import Commands, add_command, lazily

_EXAMPLES = """\
ADDRESS is what the running pytunnel was given as --status: HOST:PORT, :PORT or unix:PATH.

examples:
    pytunnel status :9090
    pytunnel status --datadir /var/lib/mysql        # of the state transfer that runs there
    pytunnel status --json unix:/run/pytunnel.sock
"""


def add_status(commands: Commands) -> None:
    """Add the command to the program's."""
    parser = add_command(commands, "status", "show how a running pytunnel is", _EXAMPLES)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("address", metavar="ADDRESS", nargs="?", help="where to ask (default: PYTUNNEL_STATUS)")
    place.add_argument("--datadir", metavar="DIR", type=Path, help="ask the state transfer that runs in this datadir")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, once")
    parser.set_defaults(run=lazily("pytunnel.cli.status_handler", "run_status"))
