"""The options of `listen`, `connect` and `run`: their names, what they take, how it is read.

An option's one name serves the command line, the environment and the TOML file: `--peer-name`, PYTUNNEL_PEER_NAME,
`peer-name = [...]`. What only some values need is imported when there is one: `--help` shall not wait for TLS.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

from pytunnel.confinement.switch import Confine
from pytunnel.errors import PytunnelError

_MOST_WORKERS = 256

Value = str | int | float | bool | tuple[str, ...]


class ConfigurationError(PytunnelError):
    """An option with a value that can't be used; names the option and where it was set."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `read` turns its text into its value and raises ValueError that says what is expected.

    The texts of a repeatable one are joined by `separator`. The text of a `secret` one is never shown.
    """

    name: str
    metavar: str | None
    help: str
    read: Callable[[str], Value]
    repeatable: bool = False
    separator: str = ","
    secret: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return "PYTUNNEL_" + self.name.upper().replace("-", "_")


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
    from pytunnel.tls.identity import ascii_host, parse_address

    def is_whole_name(name: str) -> bool:
        return ascii_host(name) is not None and "*" not in name

    names = tuple(name.strip() for name in text.split(","))
    if not all(parse_address(name) is not None or is_whole_name(name) for name in names):
        raise ValueError("expected host names or IP addresses, in full")
    return names


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError("expected a port from 1 to 65535")
    return int(text)


def _targets(text: str) -> tuple[str, ...]:
    from pytunnel.tunnel.http_connect import parse_allowed

    targets = tuple(target.strip() for target in text.split(","))
    for target in targets:
        parse_allowed(target)
    return targets


def _headers(text: str) -> tuple[str, ...]:
    from pytunnel.transport.headers import parse_headers

    return tuple(f"{name}:{value}" for name, value in parse_headers(text))


def _proxy(text: str) -> str:
    from pytunnel.transport.proxy import parse_proxy

    parse_proxy(text)
    return text


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
    Option("http-connect", "FROM", "connect: instead of FROM TO, accept here; HTTP CONNECT names each target", _filled),
    Option("allow-target", "PATTERN", "connect: such a target, HOST:PORT or *.DOMAIN:PORT; repeatable", _targets, True),
    Option("target-port", "PORT", "connect: port of such targets' pytunnel, if not the one that was named", _port),
    Option("outer-ca", "FILE", "whom a wss:// server's certificate may be from (default: the system's CAs)", _filled),
    Option("header", "NAME:VALUE", "a header of the WebSocket request; repeatable", _headers, True, "\n", secret=True),
    Option("proxy", "http://HOST:PORT", "connect: reach TO through this HTTP proxy", _proxy, secret=True),
    Option("max-connections", "N", "connections open at once (default 1000); more are refused", _count),
    Option("handshake-timeout", "SECONDS", "limit of a TLS handshake (default 20)", _seconds),
    Option("connect-timeout", "SECONDS", "limit of reaching TO (default 20)", _seconds),
    Option("idle-timeout", "SECONDS", "end a connection without a byte for so long (default: never)", _seconds),
    Option("drain-timeout", "SECONDS", "after SIGTERM, how long open connections may go on (default 30)", _seconds),
)


def _mode(text: str) -> str:
    if text not in ("listen", "connect"):
        raise ValueError("expected listen or connect")
    return text


def _status(text: str) -> str:
    from pytunnel.status.address import parse_status_address
    from pytunnel.transport.endpoint import EndpointError

    try:
        parse_status_address(text)
    except EndpointError as error:
        raise ValueError(f"expected HOST:PORT, :PORT (of this host alone) or unix:PATH ({error})") from error
    return text


def _log_format(text: str) -> str:
    if text not in ("plain", "json"):
        raise ValueError("expected plain or json")
    return text


def _workers(text: str) -> int:
    """`auto` is one for each processor that this process may use."""
    if text == "auto":
        return len(os.sched_getaffinity(0))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_WORKERS):
        raise ValueError(f"expected a number from 1 to {_MOST_WORKERS}, or auto")
    return int(text)


def _confine(text: str) -> str:
    if text not in (each.value for each in Confine):
        raise ValueError("expected off, auto or require")
    return text


ROUTE = (
    Option("mode", "listen|connect", "whether TLS is accepted at FROM or dialled at TO", _mode),
    Option("from", "FROM", "where connections are accepted", str),
    Option("to", "TO", "where they are carried to", str),
)
"""What a tunnel must have besides its options."""

PROCESS_OPTIONS = (
    Option("status", "ADDRESS", "serve health, metrics and status at HOST:PORT, :PORT or unix:PATH", _status),
    Option("workers", "N|auto", "processes that share the connections (default 1); auto: one a processor", _workers),
    Option("confine", "off|auto|require", "give up rights that are not needed; require: with Landlock", _confine),
    Option("log-format", "FORMAT", "form of the log on standard error: plain (default) or json", _log_format),
)
"""Options of the process, whatever tunnels it has."""
