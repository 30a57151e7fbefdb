"""What a check has found, and how bad it is."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Level(enum.IntEnum):
    """How bad; the value is the exit code that monitoring programs expect for it."""

    OK = 0
    WARNING = 1
    FAULT = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about `place`, a file as the person named it."""

    level: Level
    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.level.name:<8} {self.place}: {self.text}"


def worst(findings: Iterable[Finding]) -> Level:
    """The level of the worst of them; OK if there is none."""
    return max((finding.level for finding in findings), default=Level.OK)
