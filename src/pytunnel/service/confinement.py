"""What a process of tunnels needs of the system, and nothing else: the files and ports in its plan.

What every Python program needs is among it: its libraries, which are also loaded late, and what the resolver reads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytunnel
from pytunnel.confinement.landlock import EVERYTHING, READ, Access, Rules
from pytunnel.service.plan import ServicePlan
from pytunnel.system.pathwatch import lookups
from pytunnel.transport.endpoint import ExecEndpoint, TcpEndpoint, UnixEndpoint, WebSocketEndpoint
from pytunnel.tunnel.http_connect import AllowedTargets

_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/etc", "/opt/etc", "/proc", "/nix/store", "/run/systemd/resolve", "/run/resolvconf"),
    *("/run/NetworkManager", "/run/nscd", "/dev/urandom", "/dev/random"),
)
_ROOT = Path("/")
_DNS = 53  # answers that don't fit into a datagram come over TCP


def needs_programs(plan: ServicePlan) -> bool:
    """Whether programs are started: what these need, nobody here can know."""
    return any(isinstance(end, ExecEndpoint) for tunnel in plan.tunnels for end in (tunnel.source, tunnel.target))


def rules_for(plan: ServicePlan) -> Rules:
    """The rules of a process that runs `plan` and starts no programs."""
    paths: dict[Path, Access] = {}
    for path in (*map(Path, _SYSTEM), *_of_python(), *_of_certificates(plan)):
        if path != _ROOT:  # what lies there needs it, but to read everything is no confinement
            paths[path] = READ
    paths[Path("/dev/null")] = READ | Access.WRITE_FILE
    for directory in _of_sockets(plan):
        paths[directory] = paths.get(directory, Access(0)) | Access.MAKE_SOCK | Access.REMOVE_FILE
    return Rules(
        handled=EVERYTHING,
        paths=paths,
        bind=frozenset(_bound(plan)),
        connect=frozenset(_connected(plan)),
        signals=False,
        # systemd's older place for READY=1
        abstract_sockets=os.environ.get("NOTIFY_SOCKET", "").startswith("@"),
    )


def _of_python() -> Iterator[Path]:
    own = Path(pytunnel.__file__).absolute().parent
    yield own
    yield from map(Path, (sys.prefix, sys.base_prefix, sys.exec_prefix))
    for place in {Path(place).absolute() for place in sys.path if place}:
        # `python -m` puts the current directory there, whatever it is.
        if own.is_relative_to(place) or not _is_here(place):
            yield place


def _is_here(place: Path) -> bool:
    try:
        return place.samefile(".")
    except OSError:
        return False


def _of_certificates(plan: ServicePlan) -> Iterator[Path]:
    """The files, and all that a renewed one may lie in or be led to by: it is often a new file."""
    named = [path for tunnel in plan.tunnels for path in (*tunnel.tls.files, tunnel.sockets.web.outer_ca) if path]
    named += [Path(value) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if (value := os.environ.get(name))]
    for path in named:
        yield from _on_the_way_to(path)


def _on_the_way_to(path: Path) -> Iterator[Path]:
    """What `path` leads to, its directory, and those in which links on the way may be exchanged.

    Not the one above its directory: what else is there is often secret, the datadir for one.
    """
    for directory, name in lookups(path):
        found = directory / name
        if os.path.islink(found):  # noqa: PTH114 - Path.is_symlink raises PermissionError
            yield directory
    yield found
    yield directory


def _of_sockets(plan: ServicePlan) -> Iterator[Path]:
    for place in (*(tunnel.source for tunnel in plan.tunnels), plan.status):
        if isinstance(place, UnixEndpoint):
            yield Path(place.path).absolute().parent


def _bound(plan: ServicePlan) -> Iterator[int]:
    yield from _ports([plan.status])
    for tunnel in plan.tunnels:
        own = tunnel.accepting.bind_port
        yield from _ports([tunnel.source]) if own is None else [own]
        if tunnel.dialling.bind_host is not None:
            yield 0


def _connected(plan: ServicePlan) -> Iterator[int]:
    yield _DNS
    for tunnel in plan.tunnels:
        if isinstance(tunnel.target, AllowedTargets):
            yield from (tunnel.target.port or pattern.port for pattern in tunnel.target.patterns)
        yield from _ports([tunnel.target, tunnel.dialling.proxy])


def _ports(ends: Iterable[object]) -> Iterator[int]:
    for end in ends:
        match end:
            case TcpEndpoint():
                yield end.port
            case WebSocketEndpoint():
                yield end.server.port
