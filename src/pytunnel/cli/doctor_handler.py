"""What `pytunnel doctor` does: a question about this node in, a table or JSON out."""

from __future__ import annotations

import argparse
import sys

import trio

from pytunnel.doctor.examination import Question, examine
from pytunnel.doctor.node import OptionFiles
from pytunnel.doctor.report import as_json, exit_code, print_table
from pytunnel.service.options import ConfigurationError
from pytunnel.sst.address import Address, parse_address
from pytunnel.sst.errors import SstError
from pytunnel.sst.request import Role


def run_doctor(arguments: argparse.Namespace) -> int:
    """Examine this node; the exit code is the worst finding."""
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
