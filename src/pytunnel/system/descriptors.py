"""Allow this process as many file descriptors as the system lets it have: each connection takes two or three."""

from __future__ import annotations

import resource


def raise_limit() -> None:
    """Set the soft limit to the hard one; the usual soft limit of 1024 is less than our limit of connections needs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
