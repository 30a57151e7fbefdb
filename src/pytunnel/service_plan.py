"""What one process of pytunnel runs: its tunnels, as one value that is complete before anything listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytunnel.configuration import TunnelPlan
from pytunnel.errors import PytunnelError


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Everything that one process runs; at least one tunnel."""

    tunnels: tuple[TunnelPlan, ...]


class TunnelError(PytunnelError):
    """What is wrong with one of several tunnels; keeps the exit code of the cause."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@contextmanager
def about(plan: TunnelPlan) -> Iterator[None]:
    """Let an error of a tunnel that has a name begin with it; raises TunnelError."""
    try:
        yield
    except PytunnelError as error:
        if not plan.name:
            raise
        raise TunnelError(f"{plan.name}: {error}", error.exit_code) from error
