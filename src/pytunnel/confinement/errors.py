"""The error of confinement."""

from __future__ import annotations

from pytunnel.errors import PytunnelError


class ConfinementError(PytunnelError):
    """A restriction that was demanded, or that every kernel has, and that could not be put into force."""

    exit_code = 1
