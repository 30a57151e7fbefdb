"""`pytunnel doctor`: a question about this node in, a table or JSON out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

from pytunnel.cli_command import Commands, add_command
from pytunnel.configuration import ConfigurationError
from pytunnel.sst.address import Address, parse_address
from pytunnel.sst.errors import SstError
from pytunnel.sst.request import Role

_SUMMARY = "say what is wrong with this node's set-up, before a state transfer does"

_EXAMPLES = """\
Reads the server's option files and everything that they name; changes nothing and shows no secret. Run it with sudo, so
that it can ask what the server's user may read.
Exit code: 0 all is well, 1 there are warnings, 2 there are faults: a state transfer would fail.

examples:
    sudo pytunnel doctor
    sudo pytunnel doctor --defaults-file /etc/mysql/node2.cnf --json
    sudo pytunnel doctor --peer node3.my.cluster          # and shake hands with a node that listens there
"""


def add_doctor(commands: Commands) -> None:
    """Add `doctor` to the program's commands."""
    parser = add_command(commands, "doctor", _SUMMARY, _EXAMPLES)
    parser.add_argument("--defaults-file", type=Path, metavar="FILE", help="read this option file alone, as the server")
    parser.add_argument("--defaults-extra-file", type=Path, metavar="FILE", help="read this option file besides")
    parser.add_argument("--defaults-group-suffix", metavar="SUFFIX", help="read the groups with this suffix besides")
    parser.add_argument("--role", choices=[role.value for role in Role], help="look at one role alone (default: both)")
    parser.add_argument("--user", help="the server's user (default: the option files', else mysql)")
    parser.add_argument("--peer", metavar="HOST[:PORT]", help="also shake hands with a node that listens (port 4444)")
    parser.add_argument("--json", action="store_true", help="a list of objects: check, status, text, advice")
    parser.set_defaults(run=_run_doctor)


def _run_doctor(arguments: argparse.Namespace) -> int:
    from pytunnel.doctor.examination import Question, examine
    from pytunnel.doctor.node import OptionFiles
    from pytunnel.doctor.report import as_json, exit_code, print_table

    question = Question(
        OptionFiles(arguments.defaults_file, arguments.defaults_extra_file, arguments.defaults_group_suffix),
        roles=(Role(arguments.role),) if arguments.role else tuple(Role),
        user=arguments.user,
        peer=_peer(arguments.peer) if arguments.peer is not None else None,
    )
    findings = trio.run(examine, question)
    if arguments.json:
        print(as_json(findings))
    else:
        from rich.console import Console

        # A certificate may hold characters that the terminal's encoding lacks.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        print_table(findings, Console())
    return exit_code(findings)


def _peer(text: str) -> Address:
    try:
        return parse_address(text)
    except SstError as error:
        raise ConfigurationError(f"--peer {text!r}: expected HOST, HOST:PORT or [IPV6]:PORT") from error
