"""Log lines: plain for people, JSON for machines. The SST's own form is in pytunnel.sst.log.

A text that came from a peer may hold line breaks; each line of the log is one event, so they are escaped here.
"""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, TextIO

Format = Literal["plain", "json"]


log = logging.getLogger("pytunnel")

_tunnel: contextvars.ContextVar[str] = contextvars.ContextVar("tunnel", default="")


class PlainFormatter(logging.Formatter):
    """`2026-11-22T04:00:00.000Z INFO text`, or `… INFO tunnel: text` where tunnels have names."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of text; a traceback follows only where a debugger asked for it."""
        name = _tunnel.get()
        text = f"{name}: {record.getMessage()}" if name else record.getMessage()
        line = f"{timestamp(record)} {record.levelname} {one_line(text)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON text without line breaks."""
        event: dict[str, object] = {
            "time": timestamp(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if name := _tunnel.get():
            event["tunnel"] = name
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            event |= fields
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


def format_of(text: str) -> Format:
    """The form that a text names; plain for any other text."""
    return "json" if text == "json" else "plain"


def set_up(log_format: Format, *, debug: bool = False) -> None:
    """Send pytunnel's log to standard error in the given form; as JSON also what Python itself would say there."""
    use_formatter(JsonFormatter() if log_format == "json" else PlainFormatter(), debug=debug)
    logging.captureWarnings(log_format == "json")
    sys.excepthook = _log_unforeseen if log_format == "json" else sys.__excepthook__


def _log_unforeseen(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    log.critical("%s: %s", kind.__name__, error, exc_info=error)


@contextmanager
def written_to(stream: TextIO) -> Iterator[None]:
    """Write the log to `stream` during the block."""
    handlers = [handler for handler in log.handlers if isinstance(handler, logging.StreamHandler)]
    before = [handler.setStream(stream) for handler in handlers]
    try:
        yield
    finally:
        for handler, former in zip(handlers, before, strict=True):
            handler.setStream(former or sys.stderr)


@contextmanager
def naming(tunnel: str) -> Iterator[None]:
    """Let the lines that this task writes in the block bear a tunnel's name; tasks that it starts there inherit it."""
    before = _tunnel.set(tunnel)
    try:
        yield
    finally:
        _tunnel.reset(before)


def use_formatter(formatter: logging.Formatter, *, debug: bool = False) -> None:
    """Send pytunnel's log, and trio's, to standard error through `formatter`; tracebacks only when debugging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    if not debug:
        handler.addFilter(_without_traceback)
    for name in ("pytunnel", "trio", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.DEBUG if debug else logging.INFO)
        logger.propagate = False


def complain(program: str, text: str) -> None:
    """Say why the program ends, in one line on standard error: an event of the log where machines read it."""
    if any(isinstance(handler.formatter, JsonFormatter) for handler in log.handlers):
        log.error("%s", text, extra={"fields": {"program": program}})
    else:
        print(f"{program}: {one_line(text)}", file=sys.stderr)


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


def timestamp(record: logging.LogRecord) -> str:
    """The record's time in UTC to the millisecond, as RFC 3339 writes it."""
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def one_line(text: str) -> str:
    """The text with everything unprintable escaped, so that nobody can forge a line of the log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
