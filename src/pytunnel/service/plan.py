"""What one process of pytunnel runs, from the command line, the environment and one TOML file, in this order.

The result is one value that is complete, and sound by itself, before anything is opened. A file describes one tunnel
by the options at its top, or several by `[[tunnel]]` tables, whose defaults are then the options at its top.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pytunnel.confinement.switch import Confine
from pytunnel.errors import PytunnelError
from pytunnel.service.configuration import (
    Source,
    TunnelPlan,
    from_arguments,
    from_environment,
    from_table,
    make_plan,
    read_toml,
    read_values,
)
from pytunnel.service.options import OPTIONS, PROCESS_OPTIONS, ROUTE, ConfigurationError, Option, Value
from pytunnel.status.address import StatusEndpoint, parse_status_address
from pytunnel.system import logs
from pytunnel.tls.context import Side
from pytunnel.transport.endpoint import (
    Endpoint,
    StdioEndpoint,
    SystemdEndpoint,
    TcpEndpoint,
    UnixEndpoint,
)

MODES = {"listen": Side.SERVER, "connect": Side.CLIENT}

_TABLES = "tunnel"
_NAME = "name"
_NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Everything that one service runs: at least one tunnel, and where it tells how they are (None: nowhere).

    `workers` is how many processes share its connections.
    """

    tunnels: tuple[TunnelPlan, ...]
    status: StatusEndpoint | None = None
    confine: Confine = Confine.AUTO
    log_format: logs.Format = "plain"
    workers: int = 1


class TunnelError(PytunnelError):
    """What is wrong with one of several tunnels; keeps the exit code of the cause."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@contextmanager
def about(origin: str) -> Iterator[None]:
    """Let an error begin with the tunnel and the file that it is about, where there are several. Raises TunnelError."""
    try:
        yield
    except PytunnelError as error:
        if not origin:
            raise
        raise TunnelError(f"{origin}: {error}", error.exit_code) from error


def plan_service(
    arguments: Mapping[str, object], environment: Mapping[str, str], file: Path | None, *, tables: bool = True
) -> ServicePlan:
    """The plan of a process.

    `arguments` holds names of options, and of ROUTE, with texts (or lists of texts), None where the command line is
    silent. `tables` False refuses a file that describes several tunnels: the command line describes the only one.
    Raises PytunnelError that names the option, the file and the tunnel.
    """
    content = {} if file is None else read_toml(file)
    described = content.pop(_TABLES, None)
    several = described is not None
    _check_names(content, (*OPTIONS, *PROCESS_OPTIONS, *ROUTE), str(file))
    sources = (
        from_arguments(arguments),
        from_environment((*OPTIONS, *PROCESS_OPTIONS, *ROUTE), environment),
        from_table(content, str(file)),
    )
    process = read_values(PROCESS_OPTIONS, sources)
    if not several:
        tunnels: tuple[TunnelPlan, ...] = (_plan_one(sources),)
    elif tables:
        tunnels = _plan_several(described, sources, str(file))
    else:
        raise ConfigurationError(f"{file} describes tunnels of its own ([[tunnel]]); run them with: pytunnel run")
    status = process.get("status")
    workers = int(str(process.get("workers", 1)))
    if workers > 1:
        _check_shared(tunnels, workers)
    return ServicePlan(
        tunnels,
        None if status is None else parse_status_address(str(status)),
        Confine(process.get("confine", Confine.AUTO.value)),
        logs.format_of(str(process.get("log-format"))),
        workers,
    )


def _plan_one(sources: Sequence[Source]) -> TunnelPlan:
    route, options = read_values(ROUTE, sources), read_values(OPTIONS, sources)
    missing = [option for option in _needed(options) if option.name not in route]
    if missing:
        raise ConfigurationError(_without(missing, sources[0].values.get("mode")))
    return _make_plan(route, options)


def _without(missing: Sequence[Option], command: object) -> str:
    """What is said where `missing` of ROUTE is not there; `command` is the one that describes the tunnel, if any."""
    if command is not None:
        places = " and ".join(str(option.metavar) for option in missing)
        return f"{command} needs {places}: where to accept connections, then where to carry them; or --http-connect"
    return (
        f"there is nothing to run without {', '.join(option.variable for option in missing)}; set them, or name a file "
        "with mode, from and to, or with [[tunnel]] tables (--config)"
    )


def _plan_several(described: object, sources: Sequence[Source], file: str) -> tuple[TunnelPlan, ...]:
    if not isinstance(described, list) or not described or not all(isinstance(table, dict) for table in described):
        raise ConfigurationError(f"{file}: expected tables [[tunnel]], one for each tunnel")
    misplaced = [source.naming(option) for option in ROUTE for source in sources if source.values.get(option.name)]
    if misplaced:
        raise ConfigurationError(f"{misplaced[0]} is set, but each [[tunnel]] of {file} has its own; unset it")
    tunnels = tuple(_plan_table(table, number, sources, file) for number, table in enumerate(described, 1))
    _check_together(tunnels, file)
    return tunnels


def _plan_table(table: Mapping[str, object], number: int, sources: Sequence[Source], file: str) -> TunnelPlan:
    name = table.get(_NAME, f"tunnel-{number}")
    if not isinstance(name, str) or not _NAMES.fullmatch(name):
        raise ConfigurationError(
            f"name in tunnel {number} of {file}: {name!r} is not possible; expected letters, digits, '.', '_' and '-'"
        )
    origin = f"tunnel {name} of {file}"
    misplaced = [option.name for option in PROCESS_OPTIONS if option.name in table]
    if misplaced:
        raise ConfigurationError(
            f"{origin} sets {misplaced[0]!r}, which is the process's; put it at the top of the file"
        )
    _check_names({key: value for key, value in table.items() if key != _NAME}, (*ROUTE, *OPTIONS), origin)
    own = from_table(table, origin)
    route = read_values(ROUTE, [own])
    *before, top = sources
    options = read_values(OPTIONS, [*before, own, top])
    missing = [option.name for option in _needed(options) if option.name not in route]
    if missing:
        raise ConfigurationError(f"{origin} has no {missing[0]}; expected mode, from and to in each [[tunnel]]")
    with about(origin):
        plan = _make_plan(route, options)
    return replace(plan, name=name, origin=origin)


def _needed(options: Mapping[str, Value]) -> tuple[Option, ...]:
    """What of ROUTE can't be left out: http-connect stands for both ends."""
    return ROUTE[:1] if "http-connect" in options else ROUTE


def _make_plan(route: Mapping[str, Value], options: Mapping[str, Value]) -> TunnelPlan:
    source, target = (None if end is None else str(end) for end in (route.get("from"), route.get("to")))
    return make_plan(MODES[str(route["mode"])], source, target, options)


def _check_names(table: Mapping[str, object], known: Sequence[Option], place: str) -> None:
    names = [option.name for option in known]
    for name in table:
        if name not in names:
            raise ConfigurationError(f"{place} sets {name!r}, which is no option; possible are {', '.join(names)}")


def _check_together(tunnels: Sequence[TunnelPlan], file: str) -> None:
    """What is right in each tunnel by itself, but can't be in one process."""
    for number, plan in enumerate(tunnels):
        for other in tunnels[:number]:
            if plan.name == other.name:
                raise ConfigurationError(f"{file} has two tunnels with the name {plan.name}")
            if _is_one_place(plan.source) and plan.source == other.source:
                names = f"{other.name} and {plan.name}"
                raise ConfigurationError(f"the tunnels {names} of {file} are both at {plan.source}")
    passed = [plan.name for plan in tunnels if isinstance(plan.source, SystemdEndpoint)]
    if len(passed) > 1 and SystemdEndpoint() in [plan.source for plan in tunnels]:
        raise ConfigurationError(
            f"the tunnels {' and '.join(passed)} of {file} share what systemd passes; give each systemd:NAME"
        )
    on_stdio = [plan.name for plan in tunnels if StdioEndpoint() in (plan.source, plan.target)]
    if len(on_stdio) > 1:
        raise ConfigurationError(
            f"the tunnels {' and '.join(on_stdio)} of {file} can't all be stdio: there is one standard input and output"
        )


def _check_shared(tunnels: Sequence[TunnelPlan], workers: int) -> None:
    for plan in tunnels:
        if plan.carries_one_connection:
            raise ConfigurationError(
                f"--workers {workers}: {plan.source} to {plan.target} is one connection, which can't be shared; use 1"
            )


def _is_one_place(source: Endpoint) -> bool:
    """Whether one tunnel alone can accept there; for port 0 the system chooses another port each time."""
    return isinstance(source, (UnixEndpoint, SystemdEndpoint)) or (isinstance(source, TcpEndpoint) and source.port != 0)
