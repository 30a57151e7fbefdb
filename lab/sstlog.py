"""What an SST program said in a server's error log."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(
    r"^WSREP_SST: \[(?P<level>[A-Z]+)\] (?P<text>.*?)(?: \(\d{8} \d\d:\d\d:\d\d\.\d{3}\))?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Message:
    """One line: `level` is INFO, WARNING or ERROR; `text` is without the time."""

    level: str
    text: str


def messages(error_log: str) -> list[Message]:
    """All that an SST program wrote to the log, in order."""
    return [Message(found["level"], found["text"]) for found in _LINE.finditer(error_log)]


def texts(error_log: str, level: str) -> list[str]:
    """The texts of one level."""
    return [message.text for message in messages(error_log) if message.level == level]
