"""The floor: pytunnel's own relay and sockets without TLS. Run as `python -m bench.plain_relay PORT TARGET_PORT`."""

from __future__ import annotations

import sys

import trio

from pytunnel.system.heap import keep_freed_memory
from pytunnel.transport import places
from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.places import Stream
from pytunnel.tunnel.connection import log_end
from pytunnel.tunnel.tunnel import Limits, Tunnel


async def serve(port: int, target_port: int) -> None:
    """Carry each connection to the target until the process is ended."""
    target = TcpEndpoint("127.0.0.1", target_port)

    async def dial() -> Stream:
        return await places.dial(target, SocketOptions())

    listeners = await places.open_listeners(TcpEndpoint("127.0.0.1", port), SocketOptions())
    await Tunnel(dial, str(target), Limits(), observe=log_end).serve(listeners)


def main() -> None:
    """Serve as the two arguments say."""
    keep_freed_memory()
    port, target_port = (int(word) for word in sys.argv[1:])
    trio.run(serve, port, target_port)


if __name__ == "__main__":
    main()
