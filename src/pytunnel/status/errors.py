"""The error of those who ask for a status."""

from __future__ import annotations

from pytunnel.errors import PytunnelError


class StatusError(PytunnelError):
    """Nobody tells a status there."""
