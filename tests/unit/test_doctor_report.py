"""The report: for people in 80 columns without colours, for machines as JSON, and its exit code."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from pytunnel.certs.findings import Level
from pytunnel.doctor.findings import Finding, fault, from_sentence, ok, warning
from pytunnel.doctor.report import as_json, exit_code, print_table, summary

OK = ok("rsync", "/usr/bin/rsync, version 3.4.1")
WARNING = warning("replication channel", "not encrypted: " + "very " * 30 + "long", "encrypt it [bold]now[/bold]")
FAULT = fault("SST files", "/etc/\x1b[2Jevil\n/node.key can't be read", "run: chown mysql /etc/node.key")


def table(*findings: Finding) -> str:
    output = io.StringIO()
    print_table(findings, Console(file=output, width=80))
    return output.getvalue()


def test_a_row_has_check_result_and_text() -> None:
    assert "rsync ok /usr/bin/rsync, version 3.4.1" in " ".join(table(OK).split())


def test_no_line_is_longer_than_the_terminal() -> None:
    assert max(map(len, table(OK, WARNING, FAULT).splitlines())) <= 80


def test_faults_and_warnings_stand_out_without_colours() -> None:
    text = table(OK, WARNING, FAULT)
    assert "WARNING" in text
    assert "FAULT" in text
    assert "\x1b" not in text


def test_advice_stands_below_behind_an_arrow() -> None:
    assert "-> run: chown mysql /etc/node.key" in table(FAULT)


def test_text_is_shown_as_it_is_and_nothing_in_it_has_power_over_the_terminal() -> None:
    text = " ".join(table(WARNING, FAULT).split())
    assert "[bold]now[/bold]" in text
    assert r"\x1b[2Jevil\n" in text


def test_a_text_that_fits_no_line_is_not_cut_off() -> None:
    path = "/" + "a" * 200
    assert path in "".join(table(ok("SST files", path)).replace("SST files", "").replace(" ok ", "").split())


def test_the_sums_are_at_the_end() -> None:
    assert table(OK, WARNING, FAULT, FAULT).endswith("\n1 ok, 1 warning, 2 faults\n")
    assert summary([OK, OK]) == "2 ok, 0 warnings, 0 faults"


def test_json_is_a_list_of_objects() -> None:
    assert json.loads(as_json([OK, FAULT])) == [
        {"check": "rsync", "status": "ok", "text": OK.text, "advice": ""},
        {"check": "SST files", "status": "fault", "text": FAULT.text, "advice": FAULT.advice},
    ]


@pytest.mark.parametrize(("findings", "code"), [([], 0), ([OK], 0), ([OK, WARNING], 1), ([FAULT, OK, WARNING], 2)])
def test_the_exit_code_is_that_of_the_worst(findings: list[Finding], code: int) -> None:
    assert exit_code(findings) == code


@pytest.mark.parametrize(
    ("sentence", "text", "advice"),
    [
        ("the key is wrong; give the right one", "the key is wrong", "give the right one"),
        ("a; b; mend it", "a; b", "mend it"),
        ("X says Y. Make Z", "X says Y", "Make Z"),
        ("it failed", "it failed", ""),
    ],
)
def test_a_sentence_is_parted_into_what_is_wrong_and_what_to_do(sentence: str, text: str, advice: str) -> None:
    assert from_sentence("x", Level.FAULT, sentence) == Finding("x", Level.FAULT, text, advice)
