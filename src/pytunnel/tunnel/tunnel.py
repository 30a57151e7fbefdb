"""The tunnel: accept, secure, dial, relay, each connection by itself, within limits; drain on request.

The two directions of use differ only in which side is TLS: `listen` secures what it accepts, `connect` what it dials.
Both sides of every connection belong to one task, and all tasks to one nursery, so nothing outlives `serve`.
"""

from __future__ import annotations

import abc
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import trio
from OpenSSL import SSL

from pytunnel.errors import PytunnelError
from pytunnel.system.ration import LineRation
from pytunnel.tls.errors import HandshakeError, PeerRejected
from pytunnel.tls.stream import TlsStream
from pytunnel.transport import places
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.places import Listener, Stream
from pytunnel.tunnel.accepting import accept_from
from pytunnel.tunnel.connection import Connection, Observer
from pytunnel.tunnel.reaching import Lookout, Reaching
from pytunnel.tunnel.relay import ConnectionFailed, Traffic, relay
from pytunnel.tunnel.securing import TlsClient, TlsServer

log = logging.getLogger(__name__)

_TUNNEL_ENDS = "was dropped before its target was reached: the tunnel is ending"
_NAMED = 10  # connections of strangers in one period of the log


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tunnel allows. Times are in seconds; None means without a limit.

    `connections` counts those open at once, handshakes included; where TLS is accepted, one more drops the oldest that
    has not finished its handshake. `shared` is whether other processes accept from the same sockets, each with a limit
    like this. `idle` is without a byte either way, `mute` without one from one of two that both
    speak all the time, as rsync does. `drain` is how long the open ones may go on after the tunnel was told to end.
    """

    connections: int = 1000
    shared: bool = False
    handshake: float = 20.0
    idle: float | None = None
    mute: float | None = None
    drain: float = 30.0


Dial = Callable[[], Awaitable[Stream]]


class Gateway(abc.ABC):
    """Reaches the place that each accepted stream itself asks for."""

    @abc.abstractmethod
    async def reach(self, accepted: Stream, connection: Connection) -> Stream:
        """What was asked for, dialled and secured; its place and session are noted in `connection`.

        Raises PytunnelError, with nothing left open but `accepted`.
        """

    @abc.abstractmethod
    def renew(self, context: SSL.Context) -> None:
        """Secure what is dialled from now on with this context."""


class Tunnel:
    """Serves listeners: each accepted stream is carried to where `dial` leads, or a gateway for this very stream.

    `server` secures what is accepted, `client` what is dialled; one of them is set, unless a gateway does it. `target`
    names the dialled place in logs. `observe` is called when a connection has its session, and again when it has ended.
    `once`: what is dialled serves one connection only; the first that needs it has it, and no other is accepted.

    `target` names where it leads, `open` counts the connections of the moment, `completed` those that ended well,
    `turned_away` those that were refused before anything else, by one word of why. `draining` is whether it was told
    to end.
    """

    def __init__(
        self,
        dial: Dial | Gateway,
        target: str,
        limits: Limits,
        *,
        server: TlsServer | None = None,
        client: TlsClient | None = None,
        sockets: SocketOptions | None = None,
        observe: Observer,
        once: bool = False,
    ) -> None:
        self._dial = dial
        self.target = target
        self._limits = limits
        self._server = server
        self._client = client
        self._sockets = sockets or SocketOptions()
        self._observe = observe
        self._once = once
        self._ration = LineRation(_NAMED, "connections failed before they were secured", "connections")
        self._taken = False
        self.draining = False
        self._unproven: dict[Connection, trio.CancelScope] = {}  # in their handshake as TLS servers, the oldest first
        self._reaching: dict[Connection, Reaching] = {}  # whose target is not reached yet, the oldest first
        self._lookout = Lookout()
        self._accepting = trio.CancelScope()
        self._carrying = trio.CancelScope()
        self.open = 0
        self.completed = 0
        self.turned_away: Counter[str] = Counter()

    async def serve(self, listeners: Sequence[Listener]) -> None:
        """Accept and carry until `drain` is called or the listeners have no more to give; closes the listeners."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ration.report)
            nursery.start_soon(self._lookout.keep)
            try:
                with self._carrying:
                    await self._serve(listeners)
            finally:
                self._ration.summarise()
            nursery.cancel_scope.cancel()
        if self._carrying.cancelled_caught:
            log.warning("the %g s for draining are over: what was still open was cut off", self._limits.drain)

    async def _serve(self, listeners: Sequence[Listener]) -> None:
        async with trio.open_nursery() as connections:
            with self._accepting:
                try:
                    async with trio.open_nursery() as doors:
                        for listener in listeners:
                            doors.start_soon(accept_from, listener, self._admit, connections, self._note_shortage)
                except* trio.ClosedResourceError:
                    pass  # a listener of one connection, standard input for example, has given it
                finally:
                    with trio.CancelScope(shield=True):
                        for listener in listeners:
                            await listener.aclose()

    def drain(self) -> None:
        """Stop accepting; `serve` returns when the open connections have ended or the drain limit is over.

        Who has no session yet, as a TLS server's client or by a TLS client of ours, is dropped at once. Asking again
        changes nothing.
        """
        if self.draining:
            return
        self.draining = True
        self._accepting.cancel()
        self._carrying.deadline = min(self._carrying.deadline, trio.current_time() + self._limits.drain)
        unsecured = [reaching for connection, reaching in self._reaching.items() if connection.session is None]
        remaining = self.open - len(self._unproven) - len(unsecured)
        for handshake in self._unproven.values():
            handshake.cancel()
        for reaching in unsecured:
            reaching.give_up(_TUNNEL_ENDS)
        if remaining:
            log.info("draining: open connections (%d) have %g s to end", remaining, self._limits.drain)

    def renew(self, context: SSL.Context) -> None:
        """Secure connections that come from now on with this context; the open ones keep what they have."""
        if self._server is not None:
            self._server = replace(self._server, context=context)
        if self._client is not None:
            self._client = replace(self._client, context=context)
        if isinstance(self._dial, Gateway):
            self._dial.renew(context)

    async def _admit(self, accepted: Stream) -> None:
        """One accepted connection, from its first byte to its last; no failure of it leaves this function."""
        source = places.peer_of(accepted)
        if not places.is_allowed(accepted, self._sockets):
            await self._refuse(accepted, source, "address", "its address is not in the allowed range")
        elif self.open >= self._limits.connections and not (self._drop_unproven() or self._drop_ended()):
            share = " to this worker, its share of --max-connections" if self._limits.shared else ""
            reason = f"{self.open} connections are open, as many as allowed{share}"
            await self._refuse(accepted, source, "limit", reason)
        else:
            places.adjust(accepted, self._sockets)
            self.open += 1
            try:
                await self.carry(accepted, Connection(source, self.target, Traffic()))
            finally:
                self.open -= 1

    def _note_shortage(self, error: OSError) -> None:
        """Say that nobody can come in, and take what is missing from strangers: the older half of them."""
        dropped = (len(self._unproven) + 1) // 2
        for _ in range(dropped):
            self._drop_unproven()
        if self._ration.take():
            text = "no connection can be accepted now: %s; %d that had not finished their TLS handshake make room"
            log.warning(text, error.strerror, dropped)

    async def _refuse(self, accepted: Stream, source: str, word: str, reason: str) -> None:
        self.turned_away[word] += 1
        if self._ration.take():
            log.warning("%s refused: %s", source, reason)
        await places.abort(accepted)

    async def carry(self, accepted: Stream, connection: Connection) -> None:
        """Secure, dial and relay one accepted stream; it and what was dialled are closed afterwards.

        A failure is noted in `connection`; both sides were then aborted, so that neither takes it for an end of file.
        """
        try:
            await self._secure_and_relay(accepted, connection)
            self.completed += 1
        except PytunnelError as error:
            connection.failure, connection.error = str(error), error
            connection.refused = isinstance(error, PeerRejected)
        except OSError as error:  # the system has no more of something; that's no reason to end the others
            connection.failure = f"{connection.source} can't be carried to {connection.target}: {error.strerror}"
            connection.error = error
        except Exception as error:  # a fault of ours in one connection must not end the others
            connection.failure = f"a fault of pytunnel's own, please report it: {type(error).__name__}: {error}"
            connection.error = error
            log.debug("%s", connection.failure, exc_info=error)
        if connection.failure is not None and connection.session is None:
            connection.hushed = not self._ration.take()
        connection.ended = True
        self._observe(connection)

    async def _secure_and_relay(self, accepted: Stream, connection: Connection) -> None:
        near, far = accepted, None
        try:
            if self._server is not None:
                near = await self._secure_accepted(self._server, accepted, connection)
            if self._once:
                self._take()
            far = await self._reach_while_wanted(accepted, connection)
            self._observe(connection)
            async with places.kept_alive(_carrier(near), _carrier(far)):
                await self._relay(near, far, connection)
        except BaseException:
            with trio.CancelScope(shield=True):
                await _break_off(near)
                if far is not None:
                    await _break_off(far)
            raise
        try:
            await near.aclose()
        finally:
            await far.aclose()

    async def _relay(self, near: Stream, far: Stream, connection: Connection) -> None:
        names = connection.source, connection.target
        limits = self._limits
        await relay(near, far, connection.traffic, names=names, idle_limit=limits.idle, mute_limit=limits.mute)

    async def _reach_while_wanted(self, accepted: Stream, connection: Connection) -> Stream:
        self._reaching[connection] = reaching = Reaching(accepted)
        self._lookout.add(reaching)
        if self.draining and connection.session is None:
            reaching.give_up(_TUNNEL_ENDS)
        try:
            return await reaching.run(connection.source, partial(self._reach, accepted, connection))
        finally:
            self._lookout.remove(reaching)
            self._reaching.pop(connection, None)

    async def _reach(self, accepted: Stream, connection: Connection) -> Stream:
        if isinstance(self._dial, Gateway):
            return await self._dial.reach(accepted, connection)
        far = await self._dial()
        if self._client is not None:
            far, connection.session = await self._client.secure(far, self.target)
        return far

    async def _secure_accepted(self, server: TlsServer, accepted: Stream, connection: Connection) -> TlsStream:
        """Shake hands as long as nobody else needs the room; raises TlsError."""
        with trio.CancelScope() as handshake:
            self._unproven[connection] = handshake
            if self.draining:
                handshake.cancel()
            try:
                near, connection.session = await server.secure(accepted, connection.source)
            finally:
                self._unproven.pop(connection, None)
            return near
        reason = "the tunnel is ending" if self.draining else f"{self._limits.connections} connections were open"
        raise HandshakeError(f"{connection.source} was dropped before it finished its TLS handshake: {reason}")

    def _drop_unproven(self) -> bool:
        """Make room by dropping the oldest connection without a session; False if there is none.

        Otherwise a stranger who opens connections and is silent would lock everybody out.
        """
        oldest = next(iter(self._unproven), None)
        if oldest is None:
            return False
        self._unproven.pop(oldest).cancel()
        return True

    def _drop_ended(self) -> bool:
        """Make room by dropping the oldest whose target isn't reached and whose client has said all; False if none."""
        for connection, reaching in self._reaching.items():
            if reaching.client_ended:
                del self._reaching[connection]
                reaching.give_up(f"was dropped before its target was reached: {self._limits.connections} were open")
                return True
        return False

    def _take(self) -> None:
        if self._taken:
            raise ConnectionFailed(f"{self.target} serves one connection, and another one has it")
        self._taken = True
        self._accepting.cancel()


def _carrier(stream: Stream) -> Stream:
    """What a stream's ciphertext goes over; a plain one itself."""
    return stream.transport if isinstance(stream, TlsStream) else stream


async def _break_off(stream: Stream) -> None:
    """Close so that the other side can tell it from an end of file: no close_notify, or a reset of plain TCP."""
    if isinstance(stream, TlsStream):
        await trio.aclose_forcefully(stream)
    else:
        await places.abort(stream)
