"""The report: a table for people, JSON for machines, an exit code for both."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytunnel.certs.findings import Level
from pytunnel.doctor.findings import Finding
from pytunnel.system.logs import one_line

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.FAULT: "bold red"}
_CHECK_WIDTH = 19  # the longest check's name; with it, 80 columns leave 50 for the text


def exit_code(findings: Sequence[Finding]) -> int:
    """0 where all is well, 1 with warnings, 2 with faults."""
    return int(max((finding.level for finding in findings), default=Level.OK))


def print_table(findings: Sequence[Finding], console: Console) -> None:
    """One row a finding, its advice below it behind an arrow, and a line with the sums."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("check", max_width=_CHECK_WIDTH)
    table.add_column("result", no_wrap=True)
    table.add_column("what was found, and what to do", overflow="fold")
    for finding in findings:
        told = Text(one_line(finding.text))
        if finding.advice:
            told.append(f"\n-> {one_line(finding.advice)}", style="bold")
        table.add_row(Text(finding.check), Text(_word(finding.level), style=_STYLES[finding.level]), told)
    console.print(table)
    console.print(f"\n{summary(findings)}", highlight=False)


def summary(findings: Sequence[Finding]) -> str:
    """How many of each."""
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    return (
        f"{counts[Level.OK]} ok, {_counted(counts[Level.WARNING], 'warning')}, {_counted(counts[Level.FAULT], 'fault')}"
    )


def as_json(findings: Sequence[Finding]) -> str:
    """A list of objects with check, status, text and advice."""
    rows = [
        {
            "check": finding.check,
            "status": finding.level.name.lower(),
            "text": finding.text,
            "advice": finding.advice,
        }
        for finding in findings
    ]
    return json.dumps(rows, indent=2)


def _word(level: Level) -> str:
    return "ok" if level is Level.OK else level.name


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
