"""The project's benchmark: pytunnel against the tunnels that it replaces, on this machine. `make bench` runs it."""

from __future__ import annotations


class BenchError(Exception):
    """A measurement that can't be trusted or can't be made: what was seen, and where."""
