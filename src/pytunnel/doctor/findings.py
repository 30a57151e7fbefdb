"""What one check has found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from pytunnel.certs.findings import Level


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report. `check` is what was looked at; `advice` is empty where there is nothing to do.

    A FAULT keeps a state transfer from working. A WARNING lets it work, but unsafely, or not for long, or not on every
    node.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


def ok(check: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, advice: str) -> Finding:
    """It works, but."""
    return Finding(check, Level.WARNING, text, advice)


def fault(check: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, Level.FAULT, text, advice)


def from_sentence(check: str, level: Level, sentence: str) -> Finding:
    """The finding of a text that says in one what is wrong and, behind its last semicolon or full stop, what to do."""
    for mark in ("; ", ". "):
        text, found, advice = sentence.rpartition(mark)
        if found:
            return Finding(check, level, text, advice)
    return Finding(check, level, sentence)


def from_error(check: str, error: Exception) -> Finding:
    """The fault that an error of pytunnel's tells."""
    return from_sentence(check, Level.FAULT, str(error))
