"""The error of the jobs around certificates."""

from __future__ import annotations

from pytunnel.errors import PytunnelError


class CertsError(PytunnelError):
    """A certificate that can't be made, stored or checked as it was asked for; nothing was written."""

    exit_code = 2
