"""`pytunnel doctor`: its words."""

from __future__ import annotations

from pathlib import Path

from pytunnel.cli.command import Commands, add_command, lazily

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
    parser.add_argument("--role", choices=("joiner", "donor"), help="look at one role alone (default: both)")
    parser.add_argument("--user", help="the server's user (default: the option files', else mysql)")
    parser.add_argument("--peer", metavar="HOST[:PORT]", help="also shake hands with a node that listens (port 4444)")
    parser.add_argument("--json", action="store_true", help="a list of objects: check, status, text, advice")
    parser.set_defaults(run=lazily("pytunnel.cli.doctor_handler", "run_doctor"))
