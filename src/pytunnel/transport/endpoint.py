"""How a place is written: `HOST:PORT`, `[V6]:PORT`, `:PORT`, `unix:PATH`, `exec:COMMAND`, `stdio:`, `ws://…`, `wss://…`,
`systemd:NAME`.

Parsing only; `pytunnel.transport` opens what is parsed here.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from pytunnel.errors import PytunnelError

_FORMS = "HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH, exec:COMMAND, stdio:, systemd:NAME or ws://HOST:PORT/PATH (wss://…)"
_WEB_PORTS = {"ws": 80, "wss": 443}  # RFC 6455, 3
_URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", re.ASCII)  # RFC 3986, 3.3
_URL_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*", re.ASCII)
_LONGEST_UNIX_PATH = 107  # sun_path of unix(7) holds 108 bytes, the last of them zero
_LONGEST_HOST_NAME = 253  # RFC 1035, 2.3.4, in the dotted form


class EndpointError(PytunnelError):
    """An endpoint that can't be understood."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """A TCP port; an empty host means every address of this machine when listening."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    """A Unix stream socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class ExecEndpoint:
    """A program started for each connection, its standard input and output being the connection."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"exec:{shlex.join(self.argv)}"


@dataclass(frozen=True, slots=True)
class StdioEndpoint:
    """Our own standard input and output: one connection, then the end."""

    def __str__(self) -> str:
        return "stdio:"


@dataclass(frozen=True, slots=True)
class WebSocketEndpoint:
    """A WebSocket at a path of an HTTP server; `secure` for one inside TLS of its own (wss).

    `query` is sent but never shown: it may hold a token.
    """

    server: TcpEndpoint
    path: str
    secure: bool
    query: str = field(default="", repr=False)

    @property
    def resource(self) -> str:
        """What the request asks for: path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def has_default_port(self) -> bool:
        """Whether the port is the one that its scheme has anyway; a Host header then leaves it out."""
        return self.server.port == _WEB_PORTS["wss" if self.secure else "ws"]

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.server}{self.path}{'?…' if self.query else ''}"


@dataclass(frozen=True, slots=True)
class SystemdEndpoint:
    """The listening sockets that systemd passed to us: those with a name (FileDescriptorName=), or all of them."""

    name: str = ""

    def __str__(self) -> str:
        return f"systemd:{self.name}"


Endpoint = TcpEndpoint | UnixEndpoint | ExecEndpoint | StdioEndpoint | WebSocketEndpoint | SystemdEndpoint


def parse_endpoint(text: str) -> Endpoint:
    """Understand one endpoint as a person writes it.

    Raises EndpointError that names the text and the forms that are possible.
    """
    if text in ("stdio:", "-"):
        return StdioEndpoint()
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "unix":
        return _parse_unix(text, rest)
    if colon and scheme == "exec":
        return _parse_exec(text, rest)
    if colon and scheme == "systemd":
        return SystemdEndpoint(rest)
    if scheme.lower() in _WEB_PORTS and rest.startswith("//"):
        return _parse_web_socket(scheme.lower(), rest.removeprefix("//"))
    return _parse_tcp(text)


def _parse_unix(text: str, path: str) -> UnixEndpoint:
    if not path or "\0" in path:
        raise EndpointError(f"endpoint {text!r} names no path; expected unix:PATH")
    if len(os.fsencode(path)) > _LONGEST_UNIX_PATH:
        raise EndpointError(
            f"endpoint {text!r}: a Unix socket's path holds at most {_LONGEST_UNIX_PATH} bytes; choose a shorter one"
        )
    return UnixEndpoint(path)


def _parse_exec(text: str, command: str) -> ExecEndpoint:
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise EndpointError(f"endpoint {text!r}: {error}; quote the command's words as for a shell") from error
    if not argv or not argv[0]:
        raise EndpointError(f"endpoint {text!r} names no program; expected exec:COMMAND")
    if "\0" in command:
        raise EndpointError(f"endpoint {text!r} holds a NUL character, which no program's argument can")
    return ExecEndpoint(argv)


def _parse_web_socket(scheme: str, rest: str) -> WebSocketEndpoint:
    """`rest` is HOST[:PORT][/PATH][?QUERY]; errors leave out the query, and whatever else may be a secret."""
    address, question, query = rest.partition("?")
    authority, _, path = address.partition("/")
    if "@" in authority:
        raise EndpointError(f"the {scheme}:// endpoint holds a user or a password before an @; use --header instead")
    text = f"{scheme}://{address}"
    if not _URL_PATH.fullmatch(f"/{path}") or not _URL_QUERY.fullmatch(query):
        raise EndpointError(f"endpoint {text!r}: its path holds a character that a URL can't; write it as %XX")
    if question and not query:
        raise EndpointError(f"endpoint {text!r} ends in a question mark with nothing behind it")
    if not authority:
        raise EndpointError(f"endpoint {text!r} names no host; expected {scheme}://HOST:PORT/PATH")
    port = "" if ":" in re.sub(r"^\[.*\]", "", authority) else f":{_WEB_PORTS[scheme]}"
    return WebSocketEndpoint(_parse_tcp(authority + port), f"/{path}", scheme == "wss", query)


def _parse_tcp(text: str) -> TcpEndpoint:
    scheme, slashes, _ = text.partition("://")
    if slashes:
        raise EndpointError(f"endpoint {text!r}: {scheme}:// means nothing here; expected {_FORMS}")
    if text.startswith("[") and text.endswith("]"):
        raise EndpointError(f"endpoint {text!r} has no port; expected [{_parse_bracketed(text, text[1:-1])}]:PORT")
    host, colon, port = text.rpartition(":")
    if not colon:
        raise EndpointError(f"endpoint {text!r} has no port; expected {_FORMS}")
    if host.startswith("[") and host.endswith("]"):
        host = _parse_bracketed(text, host[1:-1])
    elif _is_ipv6(text) or _is_ipv6(host):
        raise EndpointError(f"endpoint {text!r}: write an IPv6 address in brackets, as {_in_brackets(text)}")
    elif not _is_host(host):
        raise EndpointError(f"endpoint {text!r}: {host!r} is not a host name or address; expected {_FORMS}")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise EndpointError(f"endpoint {text!r}: port {port!r} is not a number from 0 to 65535")
    return TcpEndpoint(host, int(port))


def _parse_bracketed(text: str, address: str) -> str:
    if not _is_ipv6(address):
        raise EndpointError(f"endpoint {text!r}: {address!r} in brackets is not an IPv6 address")
    return address


def _in_brackets(text: str) -> str:
    """What may be meant by an IPv6 address that stands bare; its last group can be a port as well."""
    address, _, last = text.rpartition(":")
    whole = _is_ipv6(text)
    readings = [f"[{address}]:{last}"] if _is_ipv6(address) and (last.isdecimal() or not whole) else []
    readings += [f"[{text}]:PORT"] if whole else []
    return " or ".join(readings)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_host(host: str) -> bool:
    """Whether a resolver may be asked for it; a `/` betrays a scheme that we don't know, such as http://."""
    return len(host) <= _LONGEST_HOST_NAME and host.isprintable() and not any(c in " /@[],:" for c in host)


def check_listening(endpoint: WebSocketEndpoint) -> None:
    """Raise EndpointError for an endpoint that can be dialled only."""
    if endpoint.secure:
        raise EndpointError(
            f"{endpoint} can't be listened at: the outer TLS is ended by the proxy or ingress in front of this node; "
            "listen at ws:// behind it. Without one no WebSocket is needed: TLS itself can listen at any port, 443 too"
        )
    if endpoint.query:
        raise EndpointError(f"{endpoint} can't be listened at: a WebSocket is told from others by its path alone")
