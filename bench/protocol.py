"""What source and sink say to each other: a header, that many bytes of the pattern, and the sink's verdict.

The verdict comes before any end of file, because not every tunnel carries a half-close.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEADER = struct.Struct("!QQ")
_VERDICT = struct.Struct("!Q?")
HEADER_SIZE = _HEADER.size
VERDICT_SIZE = _VERDICT.size


@dataclass(frozen=True, slots=True)
class Header:
    """Where in the pattern a connection's bytes begin, and how many come."""

    position: int
    size: int

    def encode(self) -> bytes:
        return _HEADER.pack(self.position, self.size)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many bytes came, and whether each was the right one."""

    size: int
    right: bool

    def encode(self) -> bytes:
        return _VERDICT.pack(self.size, self.right)


def parse_header(data: bytes) -> Header:
    """HEADER_SIZE bytes as a header."""
    return Header(*_HEADER.unpack(data))


def parse_verdict(data: bytes) -> Verdict:
    """VERDICT_SIZE bytes as a verdict."""
    return Verdict(*_VERDICT.unpack(data))
