"""The plan of one tunnel from its options, wherever they come from: command line, environment, file, in this order."""

from __future__ import annotations

import math
import socket
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from pytunnel.service.options import ConfigurationError, Option, Value
from pytunnel.sockopt.words import SockOpt, apply_to_sockets, apply_to_tls, parse_sockopt
from pytunnel.tls.context import Side
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.endpoint import (
    Endpoint,
    ExecEndpoint,
    StdioEndpoint,
    SystemdEndpoint,
    TcpEndpoint,
    WebSocketEndpoint,
    check_listening,
    parse_endpoint,
)
from pytunnel.transport.headers import parse_headers
from pytunnel.transport.options import SocketOptions, WebSocketOptions
from pytunnel.transport.proxy import parse_proxy
from pytunnel.tunnel.http_connect import AllowedTargets, parse_allowed
from pytunnel.tunnel.tunnel import Limits

_PREFIX = "PYTUNNEL_"
_ALIKE = 0.75  # of difflib's 0 to 1: PEER_NAMES and PEER_NAME, but not PORT and FROM


@dataclass(frozen=True, slots=True)
class TunnelPlan:
    """Everything that one tunnel needs to run. `source` is accepted at, `target` carried to.

    AllowedTargets as `target`: each connection asks for its own by HTTP CONNECT.
    `name` tells it from others of the same process, in the log; one that is alone has none. `origin` says in errors
    which of several tunnels, and of which file, it is.
    """

    side: Side
    source: Endpoint
    target: Endpoint | AllowedTargets
    tls: TlsSettings
    sockets: SocketOptions
    limits: Limits
    notes: tuple[str, ...] = ()
    name: str = ""
    origin: str = ""

    @property
    def mode(self) -> str:
        """The word for what it does: listen or connect."""
        return "listen" if self.side is Side.SERVER else "connect"

    @property
    def accepting(self) -> SocketOptions:
        """Socket options where connections are accepted."""
        return self.sockets if self.side is Side.SERVER else _of_plain_side(self.sockets)

    @property
    def dialling(self) -> SocketOptions:
        """Socket options where they are carried to."""
        return self.sockets if self.side is Side.CLIENT else _of_plain_side(self.sockets)

    @property
    def source_is_one_connection(self) -> bool:
        """Whether the source is a connection that is there already."""
        return isinstance(self.source, (ExecEndpoint, StdioEndpoint))

    @property
    def carries_one_connection(self) -> bool:
        """Whether the source is a connection that is there already, or the target serves one connection only."""
        return self.source_is_one_connection or isinstance(self.target, StdioEndpoint)


@dataclass(frozen=True, slots=True)
class Source:
    """One place that options are read from. `naming` says in errors where an option of it was set."""

    values: Mapping[str, object]
    naming: Callable[[Option], str]


def from_arguments(arguments: Mapping[str, object]) -> Source:
    """The command line: option names with texts (or lists of texts), None where it is silent."""
    return Source(arguments, lambda option: f"--{option.name}")


def from_environment(options: Sequence[Option], environment: Mapping[str, str]) -> Source:
    """The environment's variables of `options`."""
    values = {option.name: environment.get(option.variable) for option in options}
    return Source(values, lambda option: option.variable)


def near_misses(options: Sequence[Option], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables that are none of pytunnel's, each with the one of `options` that it looks like.

    Others may be there for other reasons: Kubernetes sets PYTUNNEL_PORT_… for a service that is called pytunnel.
    """
    known = {option.variable for option in options} | {"PYTUNNEL_CONFIG"}
    names = [name.removeprefix(_PREFIX) for name in sorted(known)]
    for name in environment:
        if name.startswith(_PREFIX) and name not in known:
            for meant in get_close_matches(name.removeprefix(_PREFIX), names, 1, _ALIKE):
                yield name, _PREFIX + meant


def from_table(table: Mapping[str, object], place: str) -> Source:
    """A table of a TOML file; `place` names it in errors, for example the file's path."""
    return Source(table, lambda option: f"{option.name} in {place}")


def read_values(options: Sequence[Option], sources: Sequence[Source]) -> dict[str, Value]:
    """Each option's value from the first source that sets it. Raises ConfigurationError."""
    found: dict[str, Value] = {}
    for option in options:
        for source in sources:
            raw = source.values.get(option.name)
            if raw is not None:
                found[option.name] = _value(option, source.naming(option), raw)
                break
    return found


def read_toml(path: Path) -> dict[str, object]:
    """The content of a TOML file. Raises ConfigurationError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the configuration file {path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from error


def make_plan(side: Side, source: str | None, target: str | None, options: Mapping[str, Value]) -> TunnelPlan:
    """The plan of a tunnel from its two endpoints, None where `http-connect` stands for both, and its options.

    Raises PytunnelError (an endpoint, a sockopt word, a combination that can't be).
    """
    words = parse_sockopt(_text(options, "sockopt") or "")
    tls = _tls_settings(options, words)
    if options.get("peer-name") and not tls.verify:
        raise ConfigurationError("--no-verify (or verify=0) and --peer-name contradict each other; give one of them")
    accepted, dialled = _endpoints(side, source, target, options, tls.peer_names)
    _check_web_sockets(side, accepted, dialled, tls)
    return TunnelPlan(
        side=side,
        source=accepted,
        target=dialled,
        tls=tls,
        sockets=apply_to_sockets(words, _socket_options(options)),
        limits=_limits(options),
        notes=(*words.notes, *_without_effect(side, accepted, dialled, options)),
    )


def _endpoints(
    side: Side, source: str | None, target: str | None, options: Mapping[str, Value], peer_names: tuple[str, ...]
) -> tuple[Endpoint, Endpoint | AllowedTargets]:
    if "http-connect" in options:
        if side is not Side.CLIENT or source is not None or target is not None:
            raise ConfigurationError("--http-connect is for connect, and takes the place of FROM and TO; give either")
        return _gateway(options, peer_names)
    for name in ("allow-target", "target-port"):
        if name in options:
            raise ConfigurationError(f"--{name} has a meaning with --http-connect only, which is not given")
    if source is None or target is None:
        raise ConfigurationError("FROM and TO are needed: where to accept connections, and where to carry them")
    accepted, dialled = parse_endpoint(source), parse_endpoint(target)
    if isinstance(dialled, SystemdEndpoint):
        raise ConfigurationError(f"TO can't be {dialled}: systemd passes sockets that accept; give it as FROM")
    if isinstance(accepted, StdioEndpoint) and isinstance(dialled, StdioEndpoint):
        raise ConfigurationError("FROM and TO can't both be stdio: there is one standard input and output")
    return accepted, dialled


def _gateway(options: Mapping[str, Value], peer_names: tuple[str, ...]) -> tuple[Endpoint, AllowedTargets]:
    patterns = options.get("allow-target")
    if not isinstance(patterns, tuple):
        raise ConfigurationError("--http-connect serves no target that is not allowed; give --allow-target HOST:PORT")
    if peer_names:
        raise ConfigurationError("--http-connect expects each target's own name; leave --peer-name out")
    source = parse_endpoint(str(options["http-connect"]))
    if isinstance(source, (ExecEndpoint, StdioEndpoint)):
        raise ConfigurationError(f"--http-connect: {source} is no place where connections are accepted; give HOST:PORT")
    port = options.get("target-port")
    return source, AllowedTargets(tuple(map(parse_allowed, patterns)), None if port is None else int(str(port)))


def _check_web_sockets(side: Side, accepted: Endpoint, dialled: Endpoint | AllowedTargets, tls: TlsSettings) -> None:
    secured, plain = (accepted, dialled) if side is Side.SERVER else (dialled, accepted)
    if isinstance(plain, WebSocketEndpoint):
        raise ConfigurationError(
            f"{plain} would carry bytes in plain; a WebSocket can be FROM of listen and TO of connect, with TLS inside"
        )
    if not isinstance(secured, WebSocketEndpoint):
        return
    if side is Side.SERVER:
        check_listening(secured)
    elif tls.verify and not tls.peer_names:
        raise ConfigurationError(
            f"{secured} names the server of the WebSocket, a proxy perhaps, and not the node behind it, whose "
            "certificate is checked; give the node's name by --peer-name"
        )


def _without_effect(
    side: Side, accepted: Endpoint, dialled: Endpoint | AllowedTargets, options: Mapping[str, Value]
) -> Iterator[str]:
    """Warnings of options that may be meant for another tunnel of the process."""
    web = accepted if side is Side.SERVER else dialled
    web_socket = web if isinstance(web, WebSocketEndpoint) else None
    if "header" in options and web_socket is None:
        yield "header has no effect here: there is no WebSocket"
    if "outer-ca" in options and not (web_socket is not None and web_socket.secure):
        yield "outer-ca has no effect here: there is no wss://"
    dials_tcp = isinstance(dialled, (TcpEndpoint, WebSocketEndpoint, AllowedTargets))
    if "proxy" in options and not (side is Side.CLIENT and dials_tcp):
        yield "proxy has no effect here: it is for what connect dials by TCP"


def _tls_settings(options: Mapping[str, Value], words: SockOpt) -> TlsSettings:
    names = options.get("peer-name")
    settings = TlsSettings(
        certificate=_path(options, "cert"),
        key=_path(options, "key"),
        ca=_path(options, "ca"),
        verify=not options.get("no-verify", False),
        peer_names=names if isinstance(names, tuple) else (),
        ciphers=_text(options, "ciphers"),
        minimum=_text(options, "tls-min") or "1.2",
    )
    return apply_to_tls(words, settings)


def _socket_options(options: Mapping[str, Value]) -> SocketOptions:
    default = SocketOptions()
    headers, proxy = options.get("header"), _text(options, "proxy")
    return replace(
        default,
        connect_timeout=_number(options, "connect-timeout", default.connect_timeout),
        proxy=None if proxy is None else parse_proxy(proxy),
        web=WebSocketOptions(
            headers=parse_headers("\n".join(headers)) if isinstance(headers, tuple) else (),
            outer_ca=_path(options, "outer-ca"),
        ),
    )


def _of_plain_side(sockets: SocketOptions) -> SocketOptions:
    """Address, family and proxy belong to the side that is TLS: `bind=` must not move a plain port to another network,
    nor a proxy see what is plain.
    """
    return replace(sockets, bind_host=None, bind_port=None, family=socket.AF_UNSPEC, proxy=None)


def _limits(options: Mapping[str, Value]) -> Limits:
    default = Limits()
    return Limits(
        connections=int(_number(options, "max-connections", default.connections)),
        handshake=_number(options, "handshake-timeout", default.handshake),
        idle=_number(options, "idle-timeout", math.inf) if "idle-timeout" in options else None,
        drain=_number(options, "drain-timeout", default.drain),
    )


def _value(option: Option, place: str, raw: object) -> Value:
    if option.repeatable and isinstance(raw, list):
        raw = option.separator.join(map(str, raw))
    if isinstance(raw, (list, dict)):
        raise ConfigurationError(f"{place}: expected one value")
    text = str(raw).lower() if isinstance(raw, bool) else str(raw)
    try:
        return option.read(text)
    except ValueError as error:
        expected = str(error) if str(error).startswith("expected") else "expected a number"
        shown = "its value (not shown)" if option.secret else repr(text)
        text = f"{place}: {shown} is not possible; {expected}"
        raise ConfigurationError(text) from (None if option.secret else error)


def _text(options: Mapping[str, Value], name: str) -> str | None:
    value = options.get(name)
    return None if value is None else str(value)


def _path(options: Mapping[str, Value], name: str) -> Path | None:
    value = options.get(name)
    return None if value is None else Path(str(value))


def _number(options: Mapping[str, Value], name: str, default: float) -> float:
    value = options.get(name, default)
    return float(value) if isinstance(value, (int, float, str)) else default
