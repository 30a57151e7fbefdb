"""Run one tunnel from its plan until a signal ends it: `pytunnel listen` and `pytunnel connect`."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Sequence
from functools import partial

import trio
from OpenSSL import SSL

from pytunnel import descriptors
from pytunnel.configuration import ConfigurationError, TunnelPlan
from pytunnel.endpoint import StdioEndpoint, TcpEndpoint
from pytunnel.heap import keep_freed_memory
from pytunnel.tls.context import Side, make_context
from pytunnel.tls.credentials import Credentials, describe_subject, expiry_date, load_credentials
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.transport import places
from pytunnel.transport.places import Listener, Stream
from pytunnel.transport.sockets import SocketListener
from pytunnel.tunnel import TlsServer, Tunnel, expected_at, log_end, make_client

log = logging.getLogger(__name__)


async def run(plan: TunnelPlan) -> int:
    """Check everything, listen, and serve until SIGTERM or SIGINT; the first drains, a second one ends at once.

    Returns the exit code: 1 where there can be one connection only, and that one did not end well.
    Raises PytunnelError before anything listens.
    """
    keep_freed_memory()
    descriptors.raise_limit()
    credentials = load_credentials(plan.tls)
    context = make_context(plan.tls, credentials)
    tunnel = await _make_tunnel(plan, context)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        listeners = await places.open_listeners(plan.source, plan.accepting)
        _log_set_up(plan, credentials, listeners)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain_on, signals, tunnel, nursery.cancel_scope)
            await tunnel.serve(listeners)
            nursery.cancel_scope.cancel()
    log.info("ended")
    return 1 if plan.carries_one_connection and not tunnel.completed else 0


async def _make_tunnel(plan: TunnelPlan, context: SSL.Context) -> Tunnel:
    async def dial() -> Stream:
        return await places.dial(plan.target, plan.dialling)

    client, server = None, None
    if plan.side is Side.CLIENT:
        client = make_client(plan.target, plan.tls, context, await _expected_peer(plan), plan.limits.handshake)
    else:
        server = TlsServer(context, ExpectedPeer(plan.tls.peer_names), plan.limits.handshake)
    return Tunnel(
        dial,
        str(plan.target),
        plan.limits,
        server=server,
        client=client,
        sockets=plan.sockets,
        observe=partial(log_end, failure_level=logging.ERROR if plan.source_is_one_connection else logging.WARNING),
        once=isinstance(plan.target, StdioEndpoint),
    )


async def _expected_peer(plan: TunnelPlan) -> ExpectedPeer:
    if not plan.tls.verify:
        return ExpectedPeer()
    if isinstance(plan.target, TcpEndpoint) and plan.target.host:
        return await expected_at(plan.target.host, plan.tls.peer_names)
    if not plan.tls.peer_names:
        raise ConfigurationError(f"{plan.target} has no host name to check the peer against; give --peer-name")
    return ExpectedPeer(plan.tls.peer_names)


async def _drain_on(signals: AsyncIterator[int], tunnel: Tunnel, everything: trio.CancelScope) -> None:
    async for number in signals:
        log.info("%s received: accepting no more connections", signal.Signals(number).name)
        tunnel.drain()
        break
    async for number in signals:
        log.warning("%s received again: ending %d open connections", signal.Signals(number).name, tunnel.open)
        everything.cancel()


def _log_set_up(plan: TunnelPlan, credentials: Credentials, listeners: Sequence[Listener]) -> None:
    for note in (*credentials.warnings, *plan.notes):
        log.warning("%s", note)
    if not plan.tls.verify:
        log.warning("peers are NOT verified (--no-verify or verify=0): anyone on the path can read and change the data")
    tls_in = plan.side is Side.SERVER
    log.info(
        "accepting %s at %s, carrying it %s to %s",
        "TLS" if tls_in else "plain connections",
        ", ".join(_addresses(listeners)) or plan.source,
        "in plain" if tls_in else "inside TLS",
        plan.target,
    )
    log.info(
        "certificate %s from %s, valid until %s; CA %s (%d certificates); peers: %s; TLS %s or later",
        describe_subject(credentials.certificate),
        plan.tls.certificate,
        expiry_date(credentials.certificate),
        plan.tls.ca or "none",
        len(credentials.trusted),
        _expected(plan),
        plan.tls.minimum,
    )


def _expected(plan: TunnelPlan) -> str:
    if not plan.tls.verify:
        return "anyone"
    if plan.side is Side.CLIENT and not plan.tls.peer_names and isinstance(plan.target, TcpEndpoint):
        return plan.target.host
    return str(ExpectedPeer(plan.tls.peer_names))


def _addresses(listeners: Sequence[Listener]) -> list[str]:
    """The addresses that are really bound, port 0 replaced by the port that the system chose."""
    names = [item.socket.getsockname() for item in listeners if isinstance(item, SocketListener)]
    return [str(TcpEndpoint(str(name[0]), int(name[1]))) for name in names]
