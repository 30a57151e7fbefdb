"""The bytes that are moved: any piece of them can be made, and checked at its place, for nearly nothing.

A digest would cost as much processor time as the encryption that is to be measured; comparing costs a tenth and
notices more: also what arrives at a wrong place.
"""

from __future__ import annotations

import random

PIECE = 256 * 1024
"""The most that one call of `piece` gives or of `is_right` takes, in bytes."""

_PERIOD = 1_048_573  # a prime, so that no block of a power of two can be lost or repeated unnoticed
_BLOCK = random.Random(1).randbytes(_PERIOD)  # noqa: S311 - data to move, not to hide
_TEXT = _BLOCK + _BLOCK[:PIECE]
_VIEW = memoryview(_TEXT)


def piece(position: int, size: int) -> memoryview:
    """The bytes at `position`, `size` of them but PIECE at most."""
    offset = position % _PERIOD
    return _VIEW[offset : offset + min(size, PIECE)]


def is_right(received: memoryview, position: int) -> bool:
    """Whether `received`, of PIECE bytes at most, is what belongs at `position`."""
    return _TEXT.startswith(received, position % _PERIOD)
