"""Room for what the donor's rsync has written and the tunnel has not read yet.

rsync makes the Unix sockets to its remote shell itself, with the system's buffer of 200 kB (net.core.wmem_default), of
which each of its writes of 64 KiB takes a third: it and the tunnel wake one another for each of them. With more room a
snapshot takes a seventh less processor time, both nodes together, for the tunnel's records and turns are larger then.
"""

from __future__ import annotations

import errno
import logging
import socket

from pytunnel.system.children import sockets_of

log = logging.getLogger(__name__)

_SIZE = 768 * 1024  # bytes: two turns of the tunnel; the kernel takes it twice, and net.core.wmem_max at most
_ENDED = (errno.ESRCH, errno.ENOENT, errno.EBADF)


class SendBuffers:
    """Enlarges those of rsync processes; where that is not permitted, it says so once and lets the next ones be."""

    def __init__(self) -> None:
        self._permitted = True

    def enlarge(self, rsync: int) -> None:
        """Let our child, the process `rsync`, write more before it has to wait."""
        if not self._permitted:
            return
        try:
            for each in sockets_of(rsync):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SIZE)
        except OSError as error:
            if error.errno in _ENDED:
                return  # its exit code says why
            self._permitted = False
            log.info("rsync's sockets keep the system's buffers (%s), at more processor time", error.strerror)
