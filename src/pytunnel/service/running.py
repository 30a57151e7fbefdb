"""Run the tunnels of one process from their plans until a signal ends them."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio
from OpenSSL import SSL

from pytunnel import __version__
from pytunnel.confinement.switch import confine
from pytunnel.service.announcing import log_set_up, shown
from pytunnel.service.configuration import TunnelPlan
from pytunnel.service.confinement import needs_programs, rules_for
from pytunnel.service.options import ConfigurationError
from pytunnel.service.plan import ServicePlan, about
from pytunnel.service.renewal import Renewal, load
from pytunnel.status.counters import TunnelCounters, describe_certificates
from pytunnel.status.listening import open_status
from pytunnel.status.server import Take
from pytunnel.status.server import serve as serve_status
from pytunnel.status.snapshot import DRAINING, ENDED, LISTENING, Snapshot, TunnelState
from pytunnel.system import descriptors, logs
from pytunnel.system.heap import keep_freed_memory
from pytunnel.system.overhearing import Overheard, overheard
from pytunnel.system.systemd import Notifier, take_notifier
from pytunnel.tls.context import Side
from pytunnel.tls.credentials import Credentials
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.transport import places
from pytunnel.transport.endpoint import Endpoint, StdioEndpoint, TcpEndpoint
from pytunnel.transport.places import Listener
from pytunnel.tunnel.connection import Connection, log_end
from pytunnel.tunnel.http_connect import AllowedTargets, HttpGateway
from pytunnel.tunnel.securing import PeerAt, TlsClient, TlsServer, make_client
from pytunnel.tunnel.tunnel import Dial, Gateway, Tunnel

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Service:
    """One tunnel of this process: as it was planned, what was read for it, where it listens, what it has done.

    `addresses` are those of the listeners that have one, port 0 replaced by the port that the system chose.
    """

    plan: TunnelPlan
    credentials: Credentials
    tunnel: Tunnel
    counters: TunnelCounters
    renewal: Renewal | None
    listeners: Sequence[Listener] = ()
    addresses: Sequence[str] = ()
    ended: bool = False

    async def serve(self) -> None:
        """Carry connections until the tunnel is drained; closes the listeners."""
        with logs.naming(self.plan.name):
            await self.tunnel.serve(self.listeners)
        self.ended = True

    async def keep_renewed(self) -> None:
        """Read the certificates again whenever their files change; goes on until cancelled."""
        if self.renewal is not None:
            with logs.naming(self.plan.name):
                await self.renewal.run(self)

    async def renew(self) -> None:
        """Read the certificates again."""
        if self.renewal is not None:
            with logs.naming(self.plan.name):
                await self.renewal.renew(self)

    def take(self, credentials: Credentials, context: SSL.Context) -> None:
        """Use these certificates for new connections."""
        self.credentials = credentials
        self.tunnel.renew(context)
        self.counters.reloads += 1

    def keep(self) -> None:
        """Count new certificates that can't be used."""
        self.counters.reloads_failed += 1

    def state(self) -> TunnelState:
        """How the tunnel is now; of a program only its name is told, for its arguments may hold a password."""
        described = TunnelState(
            name=self.plan.name or self.plan.mode,
            mode=self.plan.mode,
            source=", ".join(self.addresses) or shown(self.plan.source),
            target=shown(self.plan.target),
            state=ENDED if self.ended else DRAINING if self.tunnel.draining else LISTENING,
            certificates=describe_certificates(self.credentials),
        )
        return self.counters.state(described, self.tunnel)

    @property
    def failed(self) -> bool:
        """Whether there could be one connection only, and that one did not end well."""
        return self.plan.carries_one_connection and not self.tunnel.completed


class Supervisor(Protocol):
    """Whoever started this process as one of several that share listeners."""

    async def follow(self, take: Take) -> None:
        """Tell it what it asks for; returns when it has gone."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker has of a service: for each tunnel the listening sockets that its supervisor opened."""

    descriptors: tuple[tuple[int, ...], ...]
    supervisor: Supervisor


async def run(plan: ServicePlan, share: Share | None = None) -> int:
    """Check everything, listen, and serve until SIGTERM or SIGINT; the first drains, a second one ends at once.

    A worker accepts from its `share` of the listeners instead, and ends with its supervisor.
    Returns the exit code: 1 where a tunnel can have one connection only, and that one did not end well.
    Raises PytunnelError before anything listens.
    """
    if plan.log_format == "json" and needs_programs(plan):
        with overheard() as heard:
            return await _run(plan, share, heard)
    return await _run(plan, share, None)


async def _run(plan: ServicePlan, share: Share | None, heard: Overheard | None) -> int:
    keep_freed_memory()
    descriptors.raise_limit()
    confined = _confine(plan)
    services = [prepare(each) for each in plan.tunnels]
    manager = take_notifier(os.environ)
    orphaned = trio.Event()
    with trio.open_signal_receiver(*_signals_for(services)) as signals:
        status = await listen(plan, services) if share is None else _adopt(services, share)
        log.log(_level(share), "confined: %s", confined)
        async with trio.open_nursery() as everything:
            everything.start_soon(_obey, signals, services, manager, share, everything.cancel_scope)
            if status or share is not None:
                for service in services:
                    everything.start_soon(service.counters.keep_rates)
            if status:
                everything.start_soon(serve_status, status, _taker(services))
            if share is not None:
                everything.start_soon(_follow, share, services, orphaned, everything.cancel_scope)
            if heard is not None:
                everything.start_soon(heard.follow)
            for service in services:
                everything.start_soon(service.keep_renewed)
            everything.start_soon(show_life, manager)
            manager.ready(summary(services))
            async with trio.open_nursery() as tunnels:
                for service in services:
                    tunnels.start_soon(service.serve)
            everything.cancel_scope.cancel()
    log.log(_level(share), "ended")
    return int(orphaned.is_set() or any(service.failed for service in services))


def _level(share: Share | None) -> int:
    """Of what a service says once; its workers say it for those who look for a fault."""
    return logging.INFO if share is None else logging.DEBUG


def _confine(plan: ServicePlan) -> str:
    """Give up what the plan doesn't need, before there is any other thread; says what is in force."""
    if needs_programs(plan):
        return confine(plan.confine, None, "programs of exec: may need anything that their user may do")
    return confine(plan.confine, rules_for(plan))


def prepare(plan: TunnelPlan, *, renews: bool = True) -> Service:
    """All of a tunnel that can be checked before it listens; `renews` is whether its certificates' files are watched.

    Raises PytunnelError.
    """
    with about(plan.origin):
        renewal = Renewal(plan.tls) if renews and not plan.carries_one_connection else None
        credentials, context = load(plan.tls)
        counters = TunnelCounters()
        return Service(plan, credentials, _make_tunnel(plan, context, counters), counters, renewal)


async def listen(plan: ServicePlan, services: Sequence[Service]) -> Sequence[Listener]:
    """Open all listeners, or none: where one can't be had, those before it are closed. Returns those of the status.

    Raises PytunnelError.
    """
    status: Sequence[Listener] = ()
    try:
        if plan.status is not None:
            status = await open_status(plan.status)
        for service in services:
            with about(service.plan.origin):
                service.listeners = await places.open_listeners(service.plan.source, service.plan.accepting)
                service.addresses = addresses(service.listeners)
    except BaseException:
        with trio.CancelScope(shield=True):
            for listener in [*status, *(listener for service in services for listener in service.listeners)]:
                await listener.aclose()
        raise
    for service in services:
        with logs.naming(service.plan.name):
            log_set_up(service.plan, service.credentials, service.addresses)
    return status


def _adopt(services: Sequence[Service], share: Share) -> Sequence[Listener]:
    for service, descriptors_of_it in zip(services, share.descriptors, strict=True):
        plan = service.plan
        service.listeners = places.adopt(plan.source, descriptors_of_it, plan.accepting)
        service.addresses = addresses(service.listeners)
    return ()


async def _follow(
    share: Share, services: Sequence[Service], orphaned: trio.Event, everything: trio.CancelScope
) -> None:
    """Without its supervisor a worker would be beyond anybody's control."""
    await share.supervisor.follow(_taker(services))
    log.error("the process that supervises this one has gone: its connections are cut")
    orphaned.set()
    everything.cancel()


def _taker(services: Sequence[Service]) -> Take:
    began = time.time()

    async def take() -> Snapshot:
        return Snapshot(__version__, time.time(), began, tuple(service.state() for service in services))

    return take


def addresses(listeners: Sequence[Listener]) -> list[str]:
    """Where they are, as far as they have an address."""
    return [str(place) for place in map(places.bound_at, listeners) if place is not None]


def _make_tunnel(plan: TunnelPlan, context: SSL.Context, counters: TunnelCounters) -> Tunnel:
    client, server = None, None
    if plan.side is Side.SERVER:
        server = TlsServer(context, ExpectedPeer(plan.tls.peer_names), plan.limits.handshake)
    elif not isinstance(plan.target, AllowedTargets):
        client = _client(plan, plan.target, context)
    return Tunnel(
        _destination(plan, context),
        str(plan.target),
        plan.limits,
        server=server,
        client=client,
        sockets=plan.sockets,
        observe=partial(_observe, plan, counters),
        once=isinstance(plan.target, StdioEndpoint),
    )


def _observe(plan: TunnelPlan, counters: TunnelCounters, connection: Connection) -> None:
    counters.observe(connection)
    log_end(connection, failure_level=logging.ERROR if plan.source_is_one_connection else logging.WARNING)


def _destination(plan: TunnelPlan, context: SSL.Context) -> Dial | Gateway:
    target = plan.target
    if not isinstance(target, AllowedTargets):
        return partial(places.dial, target, plan.dialling)
    return HttpGateway(
        target,
        partial(places.dial, options=plan.dialling),
        partial(_client, plan),
        context,
        plan.limits.handshake,
    )


def _client(plan: TunnelPlan, target: Endpoint, context: SSL.Context) -> TlsClient:
    places.check_dialling(target, plan.dialling)
    return make_client(target, plan.tls, context, _expected_peer(plan, target), plan.limits.handshake)


def _expected_peer(plan: TunnelPlan, target: Endpoint) -> ExpectedPeer | PeerAt:
    if not plan.tls.verify:
        return ExpectedPeer()
    if plan.tls.peer_names:
        return ExpectedPeer(plan.tls.peer_names)
    if isinstance(target, TcpEndpoint) and target.host:
        return PeerAt(target.host)
    raise ConfigurationError(f"{target} has no host name to check the peer against; give --peer-name")


def _signals_for(services: Sequence[Service]) -> list[signal.Signals]:
    """Those that mean something: without certificates to read again, SIGHUP ends us as it ends any program."""
    renews = any(service.renewal is not None for service in services)
    return [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if renews else [])]


async def _obey(
    signals: AsyncIterator[int],
    services: Sequence[Service],
    manager: Notifier,
    share: Share | None,
    everything: trio.CancelScope,
) -> None:
    """SIGHUP reads certificates again; the first other signal drains, a second one ends at once.

    Not in a worker: who sends signals to all processes of a service has sent it the first one twice, for the
    supervisor passes it on. At a second one the supervisor goes, and its workers with it.
    """
    async for number in signals:
        if number == signal.SIGHUP:
            await _renew_all(services, manager)
            continue
        log.log(_level(share), "%s received: accepting no more connections", signal.Signals(number).name)
        manager.stopping("draining: open connections may end")
        for service in services:
            with logs.naming(service.plan.name):
                service.tunnel.drain()
        break
    async for number in signals:
        if number == signal.SIGHUP or share is not None:
            continue
        remaining = sum(service.tunnel.open for service in services)
        log.warning("%s received again: ending %d open connections", signal.Signals(number).name, remaining)
        everything.cancel()


async def _renew_all(services: Sequence[Service], manager: Notifier) -> None:
    log.info("SIGHUP received: reading the certificates again")
    manager.reloading()
    for service in services:
        await service.renew()
    manager.ready(summary(services))


async def show_life(manager: Notifier) -> None:
    """Tell the manager's watchdog that connections are served, twice in the time that it waits for it."""
    while manager.watchdog is not None:
        manager.alive()
        await trio.sleep(manager.watchdog / 2)


def summary(services: Sequence[Service]) -> str:
    """Where the service is, for systemd's status."""
    places = [", ".join(service.addresses) or shown(service.plan.source) for service in services]
    return f"accepting at {'; '.join(places)}"
