"""How a process ended, in words."""

from __future__ import annotations

import signal


def described(status: int) -> str:
    """An exit code as subprocess gives it: `exit code 5`, or the signal's name for a negative one."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"
