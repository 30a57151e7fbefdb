"""Accept connections from a listener for as long as it has any to give, also while the system is short of something.

trio's own loop writes a line to the log at each of its attempts, ten a second, for as long as a shortage lasts, and
whoever can open connections can cause one.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import trio

from pytunnel.transport.places import Listener, Stream

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})  # what accept(2) says of overload
_PAUSE = 0.1  # seconds until the next attempt


async def accept_from(
    listener: Listener,
    handle: Callable[[Stream], Awaitable[None]],
    nursery: trio.Nursery,
    on_shortage: Callable[[OSError], None],
) -> None:
    """Start `handle` in `nursery` for each connection; it closes what it gets.

    `on_shortage` is told once when nothing can be accepted, and again when that has happened anew. Raises what
    `accept` raises otherwise: trio.ClosedResourceError where there is no more to come.
    """
    short = False
    while True:
        try:
            accepted = await listener.accept()
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            if not short:
                on_shortage(error)
            short = True
            await trio.sleep(_PAUSE)
        else:
            short = False
            nursery.start_soon(handle, accepted)
