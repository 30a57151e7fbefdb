"""Wait for something that gives no event, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable

from lab import LabError


def until(condition: Callable[[], bool], limit: float, awaited: str, interval: float = 0.05) -> None:
    """Return as soon as `condition()` is true, asking every `interval` seconds.

    Raises LabError that names `awaited` when that takes more than `limit` seconds.
    """
    if not comes_true(condition, limit, interval):
        raise LabError(f"waited {limit:g} seconds for {awaited}, in vain")


def comes_true(condition: Callable[[], bool], limit: float, interval: float = 0.05) -> bool:
    """Whether `condition()` becomes true within `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True
