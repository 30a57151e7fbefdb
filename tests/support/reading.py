"""Read a stream to its end."""

from __future__ import annotations

import trio


async def read_all(stream: trio.abc.ReceiveStream, received: bytearray | None = None) -> bytes:
    """All until the end of file; what came before an error is in `received`."""
    received = bytearray() if received is None else received
    while data := await stream.receive_some():
        received += data
    return bytes(received)
