"""Copy bytes between two streams, both ways at once, until both directions have ended.

An end of file on one side is passed on to the other as an end of file (half-close), and the opposite direction goes
on. An error in one direction ends both. Each side is read only when the other has taken what was read before, so
a slow reader makes its writer wait and no buffer grows.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from pytunnel.errors import PytunnelError
from pytunnel.tls.records import ROOM, TURN
from pytunnel.tls.stream import Carried, TlsStream
from pytunnel.transport import places
from pytunnel.transport.errors import SinkBroke

_LAST_WORDS = 1.0  # seconds that a side has to say why it takes no more


@dataclass(slots=True)
class Traffic:
    """What a connection has carried so far, in bytes, and when it last did either way (trio's clock, seconds).

    `outward` is from the accepting side to the dialled one, `inward` the way back.
    """

    outward: int = 0
    inward: int = 0
    last_outward: float = field(default_factory=trio.current_time)
    last_inward: float = field(default_factory=trio.current_time)

    def begin(self) -> None:
        """From now on the connection can carry bytes: that none came while it was made is no silence."""
        self.last_outward = self.last_inward = trio.current_time()

    def went_out(self, size: int) -> None:
        """Count bytes that went outward."""
        self.outward += size
        self.last_outward = trio.current_time()

    def came_in(self, size: int) -> None:
        """Count bytes that went inward."""
        self.inward += size
        self.last_inward = trio.current_time()


class ConnectionFailed(PytunnelError):
    """A connection that ended by an error or a limit; the text says how and where."""


class IdleTooLong(ConnectionFailed):
    """No byte came either way for as long as is allowed."""


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One of the two streams; `name` is for errors."""

    stream: trio.abc.Stream
    name: str


@dataclass(slots=True, eq=False)
class _Run:
    """What both directions of one relay know: `error` is the first thing that went wrong; what follows is noise.

    `over` cancels all of it, `watched` is whether it has limits of silence; `outward` and `inward` are set when that
    direction has ended. `lost` are sides of which writing has found that the connection is gone, and how.
    """

    over: trio.CancelScope
    watched: bool
    outward: trio.Event = field(default_factory=trio.Event)
    inward: trio.Event = field(default_factory=trio.Event)
    lost: dict[_Side, SinkBroke] = field(default_factory=dict)
    error: ConnectionFailed | None = None

    def fail(self, error: ConnectionFailed) -> None:
        """End both directions."""
        self.error = self.error or error
        self.over.cancel()


async def relay(
    near: trio.abc.Stream,
    far: trio.abc.Stream,
    traffic: Traffic,
    *,
    names: tuple[str, str] = ("the side that dialled", "the side that was dialled"),
    idle_limit: float | None = None,
    mute_limit: float | None = None,
) -> None:
    """Carry bytes both ways until both ends said end of file.

    `near` is the side that was accepted, `far` the one that was dialled; neither is closed. `names` are theirs in
    errors. `idle_limit` is in seconds without a byte either way, `mute_limit` in seconds without a byte one of the
    ways, for two that both speak all the time: what one of them sends says nothing of whether it arrives. Raises
    ConnectionFailed.
    """
    traffic.begin()
    dialling, dialled = _Side(near, names[0]), _Side(far, names[1])
    async with trio.open_nursery() as nursery:
        run = _Run(nursery.cancel_scope, watched=idle_limit is not None or mute_limit is not None)
        if run.watched:
            nursery.start_soon(_watch, run, traffic, idle_limit, mute_limit)
        nursery.start_soon(_direction, run, dialling, dialled, traffic.went_out, run.outward, run.inward)
        await _direction(run, dialled, dialling, traffic.came_in, run.inward, run.outward)
    if run.error is not None:
        raise run.error


async def _direction(
    run: _Run, source: _Side, sink: _Side, carried: Carried, ended: trio.Event, opposite_ended: trio.Event
) -> None:
    """Carry one way until its end of file; an error is that of the whole relay."""
    try:
        await _copy(source.stream, sink.stream, carried)
        if source in run.lost:
            raise trio.BrokenResourceError from run.lost[source].__cause__
        await places.confirm_end(source.stream)
        await _write(sink.stream, b"")
    except SinkBroke as error:
        _note_lost(run, sink, error)
        # What it said before may still be on its way: an answer, or the TLS alert that tells the reason. Until it has
        # read them, what its peer still sends is taken and thrown away: closing a socket with unread bytes is a
        # reset, and a reset overtakes last words.
        with trio.move_on_after(_LAST_WORDS):
            await _discard(source.stream)
            await opposite_ended.wait()
        run.fail(_failed(error, sink))
    except (PytunnelError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        run.fail(_failed(error, source))
    ended.set()
    if run.watched and opposite_ended.is_set():
        run.over.cancel()


def _note_lost(run: _Run, sink: _Side, error: SinkBroke) -> None:
    """A socket tells a reset once: to who reads after that it looks like an end of file (tcp_reset of Linux).

    EPIPE is no such case: an end of file had come before.
    """
    if places.socket_to_write(sink.stream) is not None and not isinstance(error.__cause__, BrokenPipeError):
        run.lost[sink] = error


async def _watch(run: _Run, traffic: Traffic, idle_limit: float | None, mute_limit: float | None) -> None:
    """Fail the relay when a limit of silence is over."""
    while True:
        open_ways = not run.outward.is_set(), not run.inward.is_set()
        deadline, words = _next_limit(traffic, idle_limit, mute_limit, *open_ways)
        if deadline <= trio.current_time():
            run.fail(IdleTooLong(words))
        await trio.sleep_until(deadline)


async def _copy(source: trio.abc.Stream, sink: trio.abc.Stream, carried: Carried) -> None:
    """Carry all until the source's end of file."""
    plain_source, plain_sink = places.socket_to_read(source), places.socket_to_write(sink)
    if isinstance(sink, TlsStream) and sink.is_over_socket and plain_source is not None:
        await sink.send_from(plain_source, carried)
    elif isinstance(source, TlsStream) and source.is_over_socket and plain_sink is not None:
        await source.receive_into(plain_sink, carried)
    else:
        await _copy_turns(source, sink, carried)


async def _copy_turns(source: trio.abc.Stream, sink: trio.abc.Stream, carried: Carried) -> None:
    receive = source.receive_view if isinstance(source, TlsStream) else source.receive_some
    while data := await receive(ROOM):
        await _write(sink, data)
        carried(len(data))
        data = b""  # while we wait for more, nothing is kept


async def _discard(source: trio.abc.Stream) -> None:
    with suppress(PytunnelError, trio.BrokenResourceError, trio.ClosedResourceError):
        while await source.receive_some(TURN):
            pass


async def _write(sink: trio.abc.Stream, data: bytes | bytearray | memoryview) -> None:
    """Send the data, or the end of file if there is none."""
    try:
        if data:
            await sink.send_all(data)
        elif isinstance(sink, trio.abc.HalfCloseableStream):
            await sink.send_eof()
        else:
            await sink.aclose()
    except trio.BrokenResourceError as error:
        raise SinkBroke(str(error)) from error.__cause__


def _next_limit(
    traffic: Traffic, idle_limit: float | None, mute_limit: float | None, outward_open: bool, inward_open: bool
) -> tuple[float, str]:
    """When the first limit will be over unless a byte comes, and what will be said of it then."""
    limits = [(math.inf, "")]
    if idle_limit is not None:
        last = max(traffic.last_outward, traffic.last_inward)
        limits.append((last + idle_limit, f"no byte either way for {idle_limit:g} s"))
    if mute_limit is not None and outward_open:
        words = f"no byte from the side that dialled for {mute_limit:g} s"
        limits.append((traffic.last_outward + mute_limit, words))
    if mute_limit is not None and inward_open:
        limits.append(
            (traffic.last_inward + mute_limit, f"no byte from the side that was dialled for {mute_limit:g} s")
        )
    return min(limits)


def _failed(error: Exception, side: _Side) -> ConnectionFailed:
    """The failure for whoever started the relay; its cause keeps what happened, for who wants to try again."""
    failed = ConnectionFailed(str(error) if isinstance(error, PytunnelError) else _broken_off(error, side))
    failed.__cause__ = error
    return failed


def _broken_off(error: Exception, side: _Side) -> str:
    cause = error.__cause__
    reason = cause.strerror if isinstance(cause, OSError) else str(error)
    advice = "; its log says why" if isinstance(side.stream, TlsStream) else ""
    return f"{side.name} broke the connection off ({reason}){advice}"
