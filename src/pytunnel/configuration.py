"""The options of a tunnel, wherever they come from: command line, environment, file, in this order.

An option's one name serves all three: `--peer-name`, PYTUNNEL_PEER_NAME, `peer-name = [...]` in the TOML file.
"""

from __future__ import annotations

import math
import socket
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytunnel.endpoint import Endpoint, ExecEndpoint, StdioEndpoint, parse_endpoint
from pytunnel.errors import PytunnelError
from pytunnel.sockopt import SockOpt, apply_to_sockets, apply_to_tls, parse_sockopt
from pytunnel.tls.context import Side
from pytunnel.tls.identity import ascii_host, parse_address
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.options import SocketOptions
from pytunnel.tunnel import Limits

Value = str | int | float | bool | tuple[str, ...]


class ConfigurationError(PytunnelError):
    """An option with a value that can't be used; names the option and where it was set."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `read` turns its text into its value and raises ValueError that says what is expected."""

    name: str
    metavar: str | None
    help: str
    read: Callable[[str], Value]
    repeatable: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return "PYTUNNEL_" + self.name.upper().replace("-", "_")


@dataclass(frozen=True, slots=True)
class TunnelPlan:
    """Everything that one tunnel needs to run. `source` is accepted at, `target` carried to.

    `name` tells it from others of the same process, in the log; one that is alone has none. `origin` says in errors
    which of several tunnels, and of which file, it is.
    """

    side: Side
    source: Endpoint
    target: Endpoint
    tls: TlsSettings
    sockets: SocketOptions
    limits: Limits
    notes: tuple[str, ...] = ()
    name: str = ""
    origin: str = ""

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


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError("expected a number of seconds above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("expected a whole number above 0")
    return value


def _version(text: str) -> str:
    if text not in ("1.2", "1.3"):
        raise ValueError("expected 1.2 or 1.3; older versions of TLS are not safe")
    return text


def _filled(text: str) -> str:
    """An empty text, such as a variable that is set to nothing, is a mistake: it must not mean a default."""
    if not text.strip():
        raise ValueError("expected a value; leave the option out where it is not to be set")
    return text


def _peer_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(parse_address(name) is not None or _is_whole_name(name) for name in names):
        raise ValueError("expected host names or IP addresses, in full")
    return names


def _is_whole_name(name: str) -> bool:
    return ascii_host(name) is not None and "*" not in name


def _switch(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("expected 1 or 0")
    return words[text.lower()]


OPTIONS = (
    Option("cert", "FILE", "our certificate, PEM; may hold the key and the chain too", _filled),
    Option("key", "FILE", "our private key, PEM (default: in the --cert file)", _filled),
    Option("ca", "FILE|DIR", "trusted certificates: a file of one or many, or a directory of files", _filled),
    Option("peer-name", "NAME", "a name of the peer; repeatable (connect: default TO's host)", _peer_names, True),
    Option("no-verify", None, "do not verify the peer at all: anyone can be in the middle", _switch),
    Option("ciphers", "LIST", "OpenSSL cipher list; names TLS_… are the suites of TLS 1.3", _filled),
    Option("tls-min", "VERSION", "least TLS version: 1.2 (default) or 1.3", _version),
    Option("sockopt", "WORDS", "options in socat's words, such as nodelay,keepalive,pf=ip6", str),
    Option("max-connections", "N", "connections open at once (default 1000); more are refused", _count),
    Option("handshake-timeout", "SECONDS", "limit of a TLS handshake (default 20)", _seconds),
    Option("connect-timeout", "SECONDS", "limit of reaching TO (default 20)", _seconds),
    Option("idle-timeout", "SECONDS", "end a connection without a byte for so long (default: never)", _seconds),
    Option("drain-timeout", "SECONDS", "after SIGTERM, how long open connections may go on (default 30)", _seconds),
)


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


def make_plan(side: Side, source: str, target: str, options: Mapping[str, Value]) -> TunnelPlan:
    """The plan of a tunnel from its two endpoints and its options.

    Raises PytunnelError (an endpoint, a sockopt word, a combination that can't be).
    """
    words = parse_sockopt(_text(options, "sockopt") or "")
    tls = _tls_settings(options, words)
    if options.get("peer-name") and not tls.verify:
        raise ConfigurationError("--no-verify (or verify=0) and --peer-name contradict each other; give one of them")
    accepted, dialled = parse_endpoint(source), parse_endpoint(target)
    if isinstance(accepted, StdioEndpoint) and isinstance(dialled, StdioEndpoint):
        raise ConfigurationError("FROM and TO can't both be stdio: there is one standard input and output")
    return TunnelPlan(
        side=side,
        source=accepted,
        target=dialled,
        tls=tls,
        sockets=apply_to_sockets(words, _socket_options(options)),
        limits=_limits(options),
        notes=words.notes,
    )


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
    return replace(default, connect_timeout=_number(options, "connect-timeout", default.connect_timeout))


def _of_plain_side(sockets: SocketOptions) -> SocketOptions:
    """Address and family belong to the side that is TLS: `bind=` must not move a plain port to another network."""
    return replace(sockets, bind_host=None, bind_port=None, family=socket.AF_UNSPEC)


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
        raw = ",".join(map(str, raw))
    if isinstance(raw, (list, dict)):
        raise ConfigurationError(f"{place}: expected one value")
    text = str(raw).lower() if isinstance(raw, bool) else str(raw)
    try:
        return option.read(text)
    except ValueError as error:
        expected = str(error) if str(error).startswith("expected") else "expected a number"
        raise ConfigurationError(f"{place}: {text!r} is not possible; {expected}") from error


def _text(options: Mapping[str, Value], name: str) -> str | None:
    value = options.get(name)
    return None if value is None else str(value)


def _path(options: Mapping[str, Value], name: str) -> Path | None:
    value = options.get(name)
    return None if value is None else Path(str(value))


def _number(options: Mapping[str, Value], name: str, default: float) -> float:
    value = options.get(name, default)
    return float(value) if isinstance(value, (int, float, str)) else default
