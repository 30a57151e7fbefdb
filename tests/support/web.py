"""Ask an HTTP server, over TCP or a Unix socket, as probes and browsers do."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.tunnels import LIMIT


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def document(self) -> Any:
        """The text as JSON."""
        return json.loads(self.text)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LIMIT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT)
        self.sock.connect(str(self._path))


def ask(place: int | tuple[str, int] | Path, path: str, method: str = "GET") -> Reply:
    """One request to a port of this host, an address, or a Unix socket."""
    if isinstance(place, Path):
        connection: http.client.HTTPConnection = _UnixConnection(place)
    else:
        host, port = ("127.0.0.1", place) if isinstance(place, int) else place
        connection = http.client.HTTPConnection(host, port, timeout=LIMIT)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        text = response.read().decode()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, text)
    finally:
        connection.close()
