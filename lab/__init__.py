"""A throw-away Galera cluster of real servers on this machine, for the demonstration and the cluster tests.

Nothing here touches a MariaDB that is installed as a service, its data, or the machine's network settings.
"""

from __future__ import annotations

from pytunnel.errors import PytunnelError


class LabError(PytunnelError):
    """Something the lab needs is missing, or a server didn't do what was awaited."""
