"""One event is one line, whatever text it holds; nobody can forge a second one."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.system.logs import JsonFormatter, PlainFormatter, naming, one_line, set_up

FORGED = "node1\n2026-01-01T00:00:00.000Z INFO all is well\r\x1b[2J\u2028\u202e\0\x85"


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("pytunnel.test", logging.WARNING, "test.py", 1, message, arguments, None)
    made.created = 1_795_000_000.1239
    made.__dict__.update(extra)
    return made


def test_a_plain_line_has_time_level_and_text() -> None:
    assert PlainFormatter().format(record("%s ended", "node1")) == "2026-11-18T11:06:40.123Z WARNING node1 ended"


def test_a_json_line_has_the_event_s_own_fields_too() -> None:
    line = JsonFormatter().format(record("%s ended", "node1", fields={"bytes_out": 7, "peer": "CN=node1"}))
    assert json.loads(line) == {
        "time": "2026-11-18T11:06:40.123Z",
        "level": "warning",
        "message": "node1 ended",
        "bytes_out": 7,
        "peer": "CN=node1",
    }


def test_lines_of_a_tunnel_with_a_name_bear_it() -> None:
    with naming("sst"):
        plain, fields = PlainFormatter().format(record("ended")), json.loads(JsonFormatter().format(record("ended")))
    assert plain == "2026-11-18T11:06:40.123Z WARNING sst: ended"
    assert (fields["message"], fields["tunnel"]) == ("ended", "sst")
    assert "tunnel" not in json.loads(JsonFormatter().format(record("ended")))


def test_a_text_with_line_breaks_stays_one_line() -> None:
    line = PlainFormatter().format(record("%s", FORGED))
    assert line.isprintable()
    assert "node1\\n2026" in line


@given(st.text(st.characters()))
def test_any_text_stays_one_printable_line(text: str) -> None:
    assert PlainFormatter().format(record("%s", text)).isprintable()
    assert JsonFormatter().format(record("%s", text, fields={"peer": text})).isprintable()


@given(st.text(st.characters()))
def test_any_text_is_the_same_in_json(text: str) -> None:
    assert json.loads(JsonFormatter().format(record("%s", text)))["message"] == text


@given(st.text())
def test_a_text_that_is_printable_stays_as_it_is(text: str) -> None:
    assert (one_line(text) == text) == text.isprintable()


@pytest.mark.parametrize(("log_format", "first"), [("plain", "2"), ("json", "{")])
def test_the_log_goes_to_standard_error_in_its_form(
    log_format: str, first: str, own_logging: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("json" if log_format == "json" else "plain")
    own_logging.getChild("tunnel").info("accepting")
    own_logging.getChild("tunnel").debug("not this")
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err[0], "accepting" in err) == ("", 1, first, True)


def test_setting_up_twice_does_not_double_the_lines(
    own_logging: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up("plain")
    set_up("plain")
    own_logging.warning("once")
    assert capsys.readouterr().err.count("once") == 1


def fail(logger: logging.Logger) -> None:
    try:
        raise OSError(24, "Too many open files")
    except OSError:
        logger.exception("accept failed")


@pytest.mark.parametrize("log_format", ["plain", "json"])
def test_a_traceback_is_shown_to_those_who_debug_alone(
    log_format: str, own_logging: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    for debug in (False, True):
        set_up("json" if log_format == "json" else "plain", debug=debug)
        fail(own_logging)
        assert ("Traceback" in capsys.readouterr().err) == debug


def test_trio_s_own_lines_have_our_form(own_logging: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    set_up("plain")
    fail(logging.getLogger("trio.serve_listeners"))
    err = capsys.readouterr().err
    assert err.endswith("Z ERROR accept failed\n")
    assert err.count("\n") == 1
