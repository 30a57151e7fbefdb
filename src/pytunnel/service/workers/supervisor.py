"""Listen, and let several worker processes accept from the same listeners; replace one that dies, drain all of them.

One interpreter uses one processor. The supervisor carries no bytes: it opens what is listened at, starts the workers,
passes signals on, and adds up what they tell of themselves. A worker confines itself like a process without workers.
"""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import trio

from pytunnel import __version__
from pytunnel.confinement.landlock import EVERYTHING, Access
from pytunnel.confinement.switch import confine
from pytunnel.service import running
from pytunnel.service.confinement import needs_programs, rules_for
from pytunnel.service.plan import ServicePlan
from pytunnel.service.running import Service
from pytunnel.service.workers.frames import receive_frame, send_frame
from pytunnel.service.workers.worker import READY, STATUS, Order, command
from pytunnel.status.server import serve as serve_status
from pytunnel.status.snapshot import Snapshot, counted, from_json, merge
from pytunnel.system import descriptors
from pytunnel.system.exitstatus import described
from pytunnel.system.systemd import Notifier, take_notifier
from pytunnel.transport import places
from pytunnel.transport.sockets import SocketStream
from pytunnel.tunnel.tunnel import Limits

log = logging.getLogger(__name__)

_PAUSE = 1.0  # seconds before the next one is started in the place of a worker that died
_LONGEST_PAUSE = 60.0  # seconds: it grows while one after the other can't even begin
_ANSWER_LIMIT = 0.5  # seconds for a worker to say how it is: a probe that asks us waits one second
_SILENCE_LIMIT = 10.0  # seconds without an answer after which nobody can say that a worker serves
_ENDING_LIMIT = 5.0  # seconds for a worker to end when we leave
_UNSERVED = "without a worker"
_NOTHING = Snapshot(__version__, 0, 0, ())


@dataclass(slots=True, eq=False)
class Question:
    """How a worker is; `answered` is set too where there will be no answer."""

    asked: trio.Event = field(default_factory=trio.Event)
    answered: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True, eq=False)
class Worker:
    """A process, and our end of the socket pair to it; `next` is what it will be asked next.

    `accepts` is whether it has said so; `outdated`, whether its certificates may be older than a SIGHUP of that time.
    `last` is how it was when it last said so; `waiting_since`, when it was asked what it has not answered yet.
    """

    process: trio.Process
    stream: SocketStream
    next: Question = field(default_factory=Question)
    accepts: bool = False
    outdated: bool = False
    last: Snapshot | None = None
    waiting_since: float = math.inf

    def send(self, number: int) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def renew(self) -> None:
        """Let it read the certificates again.

        SIGHUP would end one that begins and handles no signals yet. It may have read the files already, so it is sent
        the signal when it can take it.
        """
        if self.accepts:
            self.send(signal.SIGHUP)
        else:
            self.outdated = True

    def begin(self) -> None:
        """Note that it accepts, and handles signals."""
        self.accepts = True
        if self.outdated:
            self.renew()

    @property
    def serves(self) -> bool:
        """Whether it has said how it is, and does not owe an answer for so long that this means nothing any more."""
        return self.last is not None and trio.current_time() < self.waiting_since + _SILENCE_LIMIT

    async def refresh(self) -> None:
        """Let `last` be how it is at this moment, if it says so in time; one that is late already is not waited for."""
        question = self.next
        question.asked.set()
        with trio.move_on_at(min(self.waiting_since, trio.current_time()) + _ANSWER_LIMIT):
            await question.answered.wait()

    async def converse(self) -> None:
        """Ask it whenever somebody wants to know, until it ends.

        Who wanted to know may give up at any time, and must not leave an answer, or half of one, to whoever asks next.
        """
        question = self.next
        try:
            while True:
                await question.asked.wait()
                self.next = Question()
                self.waiting_since = trio.current_time()
                await send_frame(self.stream, STATUS)
                answer = await receive_frame(self.stream)
                if answer is None:
                    return
                self.last = from_json(json.loads(answer))
                self.waiting_since = math.inf
                question.answered.set()
                question = self.next
        except (trio.BrokenResourceError, ValueError):
            return  # it has ended, or says what no worker does
        finally:
            question.answered.set()
            self.next.answered.set()


@dataclass(slots=True, eq=False)
class Supervisor:
    """The workers of the moment, and how those ended that were there when all were told to end.

    `accepting` are the numbers of those that have said so; `complete` is set when all have. `ended` is what those have
    counted that are no more.
    """

    plan: ServicePlan
    services: Sequence[Service]
    debug: bool
    workers: dict[int, Worker] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)
    accepting: set[int] = field(default_factory=set)
    complete: trio.Event = field(default_factory=trio.Event)
    ended: Snapshot = _NOTHING
    ending: trio.Event = field(default_factory=trio.Event)
    began: float = field(default_factory=time.time)

    @property
    def draining(self) -> bool:
        """Whether no more is accepted, and no worker replaced."""
        return self.ending.is_set()

    async def keep(self, number: int) -> None:
        """Have worker `number` running until all are drained."""
        pause = _PAUSE
        while not self.draining:
            try:
                code = await self._run_one(number)
            except OSError as error:  # no process or descriptor is to be had now
                log.error("worker %d can't be started: %s", number, error.strerror)
            else:
                if self.draining:
                    # It takes signals while it serves: one that ended it came before that, or afterwards.
                    served = number in self.accepting and -code not in (signal.SIGTERM, signal.SIGINT)
                    self.codes.append(code if served else 0)
                    return
                if number in self.accepting:
                    pause = _PAUSE
                    log.error(
                        "worker %d ended with %s: its connections are cut; another follows", number, described(code)
                    )
                else:
                    log.error("worker %d can't begin: %s; tried again in %g s", number, described(code), pause)
            with trio.move_on_after(pause):
                await self.ending.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _run_one(self, number: int) -> int:
        self.accepting.discard(number)
        worker = await self._start()
        self.workers[number] = worker
        try:
            if self.draining:  # since it was started, so no signal was passed on to it
                return 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._speak_with, worker, number)
                code = await worker.process.wait()
                nursery.cancel_scope.cancel()
            return code
        finally:
            del self.workers[number]
            if worker.last is not None:
                self.ended = merge([self.ended, counted(worker.last)])
            with trio.CancelScope(shield=True):
                await worker.stream.aclose()  # where we were cancelled, the worker sees this and ends
                with trio.move_on_after(_ENDING_LIMIT):
                    await worker.process.wait()
                worker.process.kill()
                await worker.process.wait()

    async def _speak_with(self, worker: Worker, number: int) -> None:
        try:
            await send_frame(worker.stream, pickle.dumps(self._order()))
            if await receive_frame(worker.stream) != READY:
                return
        except trio.BrokenResourceError:
            return  # it ended, and its exit code says how
        log.debug("worker %d accepts: process %d", number, worker.process.pid)
        self.accepting.add(number)
        worker.begin()
        if len(self.accepting) == self.plan.workers:
            self.complete.set()
        await worker.converse()

    async def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await trio.lowlevel.open_process(
                command(),
                stdin=theirs.fileno(),
                pass_fds=tuple(each for passed in self._passed() for each in passed),
                process_group=0,  # Ctrl-C is for the supervisor, who passes it on
            )
        return Worker(process, SocketStream(trio.socket.from_stdlib_socket(ours)))

    def _passed(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(places.descriptors_of(each.listeners)) for each in self.services)

    def _order(self) -> Order:
        """The plan of one worker: an equal part of the connections that are allowed, and nothing to tell others."""
        tunnels = tuple(replace(each, limits=self._part_of(each.limits)) for each in self.plan.tunnels)
        return Order(replace(self.plan, tunnels=tunnels, status=None, workers=1), self._passed(), self.debug)

    def _part_of(self, limits: Limits) -> Limits:
        return replace(limits, connections=math.ceil(limits.connections / self.plan.workers), shared=True)

    async def take(self) -> Snapshot:
        """All workers as one service.

        One that is late is as it was when it last answered, and what one has counted stays when it ends: a sum that
        falls is a restart for Prometheus, after which all of it is new.
        """
        async with trio.open_nursery() as nursery:
            for worker in self.workers.values():
                if worker.accepts:
                    nursery.start_soon(worker.refresh)
        workers = tuple(self.workers.values())
        told = [worker.last for worker in workers if worker.last is not None]
        if not any(worker.serves for worker in workers):
            told.append(self._unserved())
        return replace(merge([*told, self.ended]), taken=time.time(), began=self.began)

    def _unserved(self) -> Snapshot:
        """Without certificates, for ours are those of the start."""
        states = tuple(replace(each.state(), state=_UNSERVED, certificates=()) for each in self.services)
        return Snapshot(__version__, time.time(), self.began, states)

    def renew(self) -> None:
        """Let every worker read the certificates again."""
        for worker in self.workers.values():
            worker.renew()

    async def drain(self, number: int) -> None:
        """Accept no more, let no worker be replaced, and send them the signal that ends them.

        One that handles no signals yet has nothing to drain, and may end by it.
        """
        self.ending.set()
        for each in self.services:
            for listener in each.listeners:
                await listener.aclose()
        for worker in self.workers.values():
            worker.outdated = False  # SIGHUP means nothing to who drains, and would end one that has just drained
            worker.send(number)


async def run(plan: ServicePlan, *, debug: bool) -> int:
    """Serve with `plan.workers` processes until SIGTERM or SIGINT; the first drains, a second one ends at once.

    Returns the exit code: 1 where a worker did not end well. Raises PytunnelError before anything listens.
    """
    descriptors.raise_limit()
    confined = _confine(plan)
    services = [running.prepare(each, renews=False) for each in plan.tunnels]
    manager = take_notifier(os.environ)
    supervisor = Supervisor(plan, services, debug)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        status = await running.listen(plan, services)
        log.info("confined: %s", confined)
        async with trio.open_nursery() as everything:
            everything.start_soon(_obey, signals, supervisor, manager, everything.cancel_scope)
            if status:
                everything.start_soon(serve_status, status, supervisor.take)
            everything.start_soon(running.show_life, manager)
            everything.start_soon(_announce, supervisor, manager)
            async with trio.open_nursery() as workers:
                for number in range(1, plan.workers + 1):
                    workers.start_soon(supervisor.keep, number)
            everything.cancel_scope.cancel()
    log.info("ended")
    return int(any(supervisor.codes))


async def _announce(supervisor: Supervisor, manager: Notifier) -> None:
    await supervisor.complete.wait()
    log.info("%d workers share the connections", supervisor.plan.workers)
    manager.ready(running.summary(supervisor.services))


def _confine(plan: ServicePlan) -> str:
    """As a process without workers, but that it may start programs: itself, again."""
    if needs_programs(plan):
        return confine(plan.confine, None, "programs of exec: may need anything that their user may do")
    return confine(plan.confine, replace(rules_for(plan), handled=EVERYTHING & ~Access.EXECUTE))


async def _obey(
    signals: AsyncIterator[int], supervisor: Supervisor, manager: Notifier, everything: trio.CancelScope
) -> None:
    """Pass on what comes; the first signal that ends drains, a second one ends at once."""
    async for number in signals:
        if number == signal.SIGHUP:
            if not supervisor.draining:
                log.info("SIGHUP received: the workers read the certificates again")
                supervisor.renew()
            continue
        name = signal.Signals(number).name
        if supervisor.draining:
            log.warning("%s received again: ending all open connections", name)
            everything.cancel()
            return
        log.info("%s received: accepting no more connections", name)
        manager.stopping("draining: open connections may end")
        await supervisor.drain(number)
