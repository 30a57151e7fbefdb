"""Words of HTTP: headers as configurations name them, statuses as people know them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus

Headers = Sequence[tuple[str, str]]

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[ -~]+", re.ASCII)
_OURS = ("connection", "upgrade", "content-length", "transfer-encoding")


def parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    """The headers of lines NAME:VALUE; raises ValueError that says what is expected, and shows no value."""
    return tuple(_parse_header(line) for line in text.splitlines() if line.strip())


def _parse_header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _TOKEN.fullmatch(name) or not value or not _VALUE.fullmatch(value):
        raise ValueError("expected NAME:VALUE, one header a line, in characters that HTTP can hold")
    if name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
        raise ValueError(f"expected another header than {name}, which the WebSocket request sets itself")
    return name, value


def named(status: int) -> str:
    """A status with its usual words; those that the other side sent may be anything."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
