"""What `certs` finds in files, for tests that are about the findings: each must be in the document."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from pytunnel.certs.findings import Finding, Level
from pytunnel.certs.making import issue, make_ca, make_key, valid_for
from pytunnel.certs.names import parse_names

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
NAMES = parse_names(["node1.my.cluster"], ["10.0.0.1"])
CA = make_ca("Test CA", valid_for(3000), make_key())
NODE = issue(CA, NAMES, valid_for(500), make_key())
DOCUMENT = Path(__file__).parents[2] / "docs" / "certificates.md"


def documented() -> list[re.Pattern[str]]:
    """What the document's table says that verify says; `…` stands for anything."""
    table = DOCUMENT.read_text().partition("## What `certs verify` says")[2]
    cells = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    messages = [message for cell in cells for message in cell.split("; the … file")]
    return [re.compile(".*".join(map(re.escape, message.split("…")))) for message in messages if message != "---"]


DOCUMENTED = documented()


def explained(findings: list[Finding]) -> list[Finding]:
    """The findings, once it is sure that the document explains each of them."""
    for finding in findings:
        assert finding.level is Level.OK or any(item.search(finding.text) for item in DOCUMENTED), finding.text
    return findings


def only(findings: list[Finding]) -> tuple[Level, str]:
    assert len(findings) == 1, [str(finding) for finding in findings]
    return findings[0].level, findings[0].text
