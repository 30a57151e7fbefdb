"""The status socket of a state transfer: in its datadir, however long the datadir's path is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytunnel.status.address import STATUS_SOCKET
from pytunnel.status.errors import StatusError
from pytunnel.transport.endpoint import UnixEndpoint


@contextmanager
def in_directory(directory: Path) -> Iterator[UnixEndpoint]:
    """The socket in this very directory, which is held open meanwhile; a socket's path has 107 bytes at most.

    Raises StatusError.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StatusError(f"the datadir {directory} can't be opened: {error.strerror}") from error
    try:
        yield UnixEndpoint(f"/proc/self/fd/{descriptor}/{STATUS_SOCKET}")
    finally:
        os.close(descriptor)
