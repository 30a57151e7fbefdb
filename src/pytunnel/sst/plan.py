"""The note that a donor of ours sends ahead to a joiner of ours: how much will come. Only the log uses it."""

from __future__ import annotations

import re

from pytunnel.sst.manifest import Amount

PLAN_FILE = "plan"

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
