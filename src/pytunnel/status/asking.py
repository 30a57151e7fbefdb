"""Ask a process of this host, or another one's, how it is."""

from __future__ import annotations

import http.client
import json
import socket

from pytunnel.status.address import StatusEndpoint
from pytunnel.status.errors import StatusError
from pytunnel.status.snapshot import Snapshot, from_json
from pytunnel.transport.endpoint import UnixEndpoint

_TIME = 10.0  # seconds
_LARGEST = 16 * 1024 * 1024  # bytes


def ask(endpoint: StatusEndpoint) -> Snapshot:
    """The snapshot of the process whose status is at `endpoint`. Raises StatusError."""
    connection = _connection(endpoint)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        text = answer.read(_LARGEST)
        if answer.status != http.HTTPStatus.OK:
            raise StatusError(f"{endpoint} answers with {answer.status} {answer.reason}; is it pytunnel's --status?")
        return from_json(json.loads(text))
    except OSError as error:
        raise StatusError(
            f"no status at {endpoint}: {error.strerror or error}; is pytunnel running with --status?"
        ) from error
    except (http.client.HTTPException, ValueError) as error:
        raise StatusError(f"{endpoint} gives no status of pytunnel's ({error}); is it another program's?") from error
    finally:
        connection.close()


def _connection(endpoint: StatusEndpoint) -> http.client.HTTPConnection:
    if isinstance(endpoint, UnixEndpoint):
        return _UnixConnection(endpoint.path)
    return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_TIME)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIME)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
