"""The note that a donor of ours sends to a joiner of ours: ahead, how much will come; instead, why nothing more will.

An old joiner has no place for it and gets none. One that knows only the first form takes the second for no plan.
"""

from __future__ import annotations

import re

from pytunnel.sst.manifest import Amount

PLAN_FILE = "plan"

_LONGEST_REASON = 1000  # bytes
_NUMBER = re.compile(r"[0-9]{1,19}")


def format_plan(total: Amount) -> str:
    """The note's text."""
    return f"bytes {total.bytes}\nfiles {total.files}\n"


def parse_plan(text: str) -> Amount | None:
    """What a note says; None where it says nothing that can be understood."""
    words = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    if not all(_NUMBER.fullmatch(words.get(name, "")) for name in ("bytes", "files")):
        return None
    return Amount(int(words["bytes"]), int(words["files"]))


def format_failure(reason: str) -> str:
    """The note of a donor that gives up; what is not plain text in the reason is escaped."""
    text = reason.encode("unicode_escape").decode("ascii")
    return f"failed {text[:_LONGEST_REASON]}\n"


def parse_failure(text: str) -> str | None:
    """Why the donor gave up; None where the note says nothing of it."""
    word, _, reason = text.rstrip("\n").partition(" ")
    return reason[:_LONGEST_REASON] if word == "failed" and reason.isprintable() else None
