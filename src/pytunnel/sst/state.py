"""The state file, which the donor sends last: its arrival tells the joiner that all before it is complete."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pytunnel.sst.errors import SstError

_UUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_POSITION = re.compile(rf"({_UUID}):(-?[0-9]{{1,19}})(?: ([0-9]{{1,10}}))?", re.ASCII)
_SECRET = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the cluster's history a snapshot stands, and the GTID domain; written `UUID:SEQNO DOMAIN`.

    Only MariaDB has domains; other servers write `UUID:SEQNO`, and are told the same.
    """

    uuid: str
    seqno: int
    domain: int | None = None

    def __str__(self) -> str:
        gtid = f"{self.uuid}:{self.seqno}"
        return gtid if self.domain is None else f"{gtid} {self.domain}"


@dataclass(frozen=True, slots=True)
class State:
    """What the state file says. `bypass`: no data was sent, the joiner takes the missing transactions (IST)."""

    position: Position
    secret: str | None = field(default=None, repr=False)
    bypass: bool = False


def parse_position(text: str) -> Position:
    """A position as the server writes it into `tables_flushed`: `UUID:SEQNO`, and MariaDB's `DOMAIN` after a blank.

    Raises SstError.
    """
    parts = _POSITION.fullmatch(text.strip())
    if parts is None:
        raise SstError(f"{text[:80]!r} is no position; expected UUID:SEQNO, or UUID:SEQNO DOMAIN")
    return Position(parts[1], int(parts[2]), int(parts[3]) if parts[3] is not None else None)


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
