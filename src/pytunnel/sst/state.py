"""The state file, which the donor sends last: its arrival tells the joiner that all before it is complete."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pytunnel.sst.errors import SstError

_UUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_GTID = re.compile(rf"({_UUID}):(-?[0-9]{{1,19}})", re.ASCII)
_DOMAIN = re.compile(r"[0-9]{1,10}", re.ASCII)
_SECRET = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the cluster's history a snapshot stands, and the GTID domain; written `UUID:SEQNO DOMAIN`."""

    uuid: str
    seqno: int
    domain: int

    def __str__(self) -> str:
        return f"{self.uuid}:{self.seqno} {self.domain}"


@dataclass(frozen=True, slots=True)
class State:
    """What the state file says. `bypass`: no data was sent, the joiner takes the missing transactions (IST)."""

    position: Position
    secret: str | None = field(default=None, repr=False)
    bypass: bool = False


def parse_position(text: str) -> Position:
    """A position as the server writes it into `tables_flushed`: `UUID:SEQNO DOMAIN`.

    Raises SstError.
    """
    gtid, _, domain = text.strip().partition(" ")
    parts = _GTID.fullmatch(gtid)
    if parts is None or not _DOMAIN.fullmatch(domain):
        raise SstError(f"{text[:80]!r} is no position; expected UUID:SEQNO DOMAIN")
    return Position(parts[1], int(parts[2]), int(domain))


def parse_state(text: str) -> State:
    """The state file's text: a position, then optional lines `secret S` and `bypass`, in any order.

    Raises SstError, which never shows the secret.
    """
    first, *others = text.splitlines() or [""]
    position = parse_position(first)
    secret: str | None = None
    bypass = False
    for number, line in enumerate(others, start=2):
        word, _, value = line.partition(" ")
        if word == "secret" and secret is None and _SECRET.fullmatch(value):
            secret = value
        elif line == "bypass":
            bypass = True
        else:
            raise SstError(
                f"line {number} of the state file is not understood; expected `secret` with its value, or `bypass`: "
                "is the donor's pytunnel newer than ours?"
            )
    return State(position, secret, bypass)


def format_state(state: State) -> str:
    """The text of the state file; parse_state takes it back."""
    lines = [str(state.position)]
    if state.secret is not None:
        lines.append(f"secret {state.secret}")
    if state.bypass:
        lines.append("bypass")
    return "\n".join(lines) + "\n"
