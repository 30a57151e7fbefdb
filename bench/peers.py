"""The tunnels that are compared: how each is started, both ends, mutual authentication and names checked everywhere.

Each is set up as its users do, with its own defaults; only where a default would be a hindrance here (socat's short
queue of waiting connections) is it changed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.credentials import NAME, End, Ends

HOST = "127.0.0.1"
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Route:
    """Where one end accepts and where it carries to, ports of this host; `folder` is for its files."""

    port: int
    target: int
    folder: Path


Command = Callable[[Route, End], list[str]]


@dataclass(frozen=True, slots=True)
class Peer:
    """One kind of tunnel. `client` and `server` give the command of each end; `program` has to be installed."""

    name: str
    client: Command
    server: Command
    program: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether this tunnel can be measured here."""
        return self.program is None or shutil.which(self.program) is not None

    def commands(self, client: Route, server: Route, ends: Ends) -> tuple[list[str], list[str]]:
        """The commands of the end that connects and of the one that listens."""
        return self.client(client, ends.client), self.server(server, ends.server)


def _pytunnel_client(route: Route, end: End) -> list[str]:
    return _pytunnel("connect", route, end, "--peer-name", NAME)


def _pytunnel_server(route: Route, end: End) -> list[str]:
    return _pytunnel("listen", route, end)


def _with_workers(command: Command) -> Command:
    return lambda route, end: [*command(route, end), "--workers", "auto"]


def _pytunnel(command: str, route: Route, end: End, *options: str) -> list[str]:
    words = [sys.executable, "-m", "pytunnel", command, "--cert", str(end.certificate), "--ca", str(end.ca), *options]
    return [*words, f"{HOST}:{route.port}", f"{HOST}:{route.target}"]


def _web_client(route: Route, end: End) -> list[str]:
    *words, _ = _pytunnel_client(route, end)
    return [*words, f"ws://{HOST}:{route.target}/"]


def _web_server(route: Route, end: End) -> list[str]:
    *words, _, target = _pytunnel_server(route, end)
    return [*words, f"ws://{HOST}:{route.port}/", target]


def _plain(route: Route, _end: End) -> list[str]:
    return [sys.executable, "-m", "bench.plain_relay", str(route.port), str(route.target)]


def _socat_client(route: Route, end: End) -> list[str]:
    secured = f"OPENSSL-CONNECT:{HOST}:{route.target},{_socat_options(end)},commonname={NAME}"
    return ["socat", f"TCP-LISTEN:{route.port},{_SOCAT_LISTENING}", secured]


def _socat_server(route: Route, end: End) -> list[str]:
    secured = f"OPENSSL-LISTEN:{route.port},{_SOCAT_LISTENING},{_socat_options(end)}"
    return ["socat", secured, f"TCP:{HOST}:{route.target}"]


def _without_nagle(command: Command) -> Command:
    return lambda route, end: [*command(route, end)[:1], *(f"{each},nodelay" for each in command(route, end)[1:])]


_SOCAT_LISTENING = f"bind={HOST},reuseaddr,fork,backlog={_BACKLOG}"


def _socat_options(end: End) -> str:
    return f"cert={end.certificate},cafile={end.ca},verify=1"


def _stunnel_client(route: Route, end: End) -> list[str]:
    return _stunnel("client", route, end, "client = yes", f"checkHost = {NAME}")


def _stunnel_server(route: Route, end: End) -> list[str]:
    return _stunnel("server", route, end)


def _stunnel(name: str, route: Route, end: End, *more: str) -> list[str]:
    lines = ["foreground = yes", "pid =", "debug = 3", f"[{name}]", *more]
    lines += [f"accept = {HOST}:{route.port}", f"connect = {HOST}:{route.target}"]
    lines += [f"cert = {end.certificate}", f"CAfile = {end.ca}", "verifyChain = yes"]
    return ["stunnel", _write(route.folder / f"stunnel-{name}.conf", lines)]


def _haproxy_client(route: Route, end: End) -> list[str]:
    return _haproxy("client", route, "", f"{_haproxy_options(end)} verifyhost {NAME}")


def _haproxy_server(route: Route, end: End) -> list[str]:
    return _haproxy("server", route, _haproxy_options(end), "")


def _haproxy_options(end: End) -> str:
    return f"ssl crt {end.certificate} ca-file {end.ca} verify required"


def _haproxy(name: str, route: Route, accepting: str, dialling: str) -> list[str]:
    lines = ["defaults", "    mode tcp", "    timeout connect 5s", "    timeout client 60s", "    timeout server 60s"]
    lines += [f"listen {name}", f"    bind {HOST}:{route.port} {accepting}"]
    lines += [f"    server target {HOST}:{route.target} {dialling}"]
    return ["haproxy", "-db", "-f", _write(route.folder / f"haproxy-{name}.cfg", lines)]


def _write(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join((*lines, "")))
    return str(path)


PYTUNNEL = Peer("pytunnel", _pytunnel_client, _pytunnel_server)
WEB_SOCKET = Peer("pytunnel in a WebSocket", _web_client, _web_server)
WORKERS = Peer("pytunnel --workers auto", _with_workers(_pytunnel_client), _with_workers(_pytunnel_server))
SOCAT = Peer("socat", _socat_client, _socat_server, "socat")
SOCAT_NODELAY = Peer("socat nodelay", _without_nagle(_socat_client), _without_nagle(_socat_server), "socat")
STUNNEL = Peer("stunnel", _stunnel_client, _stunnel_server, "stunnel")
HAPROXY = Peer("haproxy", _haproxy_client, _haproxy_server, "haproxy")
PLAIN = Peer("plain relay", _plain, _plain)
ALL = (PYTUNNEL, SOCAT, STUNNEL, HAPROXY, PLAIN)


def installed(*wanted: Peer) -> tuple[Peer, ...]:
    """Those of the wanted ones that can be measured here."""
    return tuple(peer for peer in wanted if peer.is_installed)


def missing() -> tuple[str, ...]:
    """The names of those that can't."""
    return tuple(peer.name for peer in ALL if not peer.is_installed)
