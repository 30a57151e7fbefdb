"""Tell over HTTP how this process is: `/healthz`, `/readyz`, `/metrics`, `/status`; one request a connection.

Whoever can reach the port may ask, so nothing here is secret, and nobody can take much: a visit has a few seconds, a
request a few kilobytes. One visitor too many takes the place of the one who has been here longest with half a request,
or without taking the answer; who waits for an answer gets it, so that nobody can make a probe fail. To tell how the
process is takes a tenth of its time at most, however many ask: who asks meanwhile waits, and is told together with the
others. Readiness is told at once, as it was when that was last looked at: less than a second ago.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus

import h11
import trio

from pytunnel.status.snapshot import Snapshot, to_json, unreadiness
from pytunnel.transport.places import Listener, Stream
from pytunnel.tunnel.accepting import accept_from

log = logging.getLogger(__name__)

Take = Callable[[], Awaitable[Snapshot]]
"""Takes a snapshot of this moment."""

_LONGEST_HEAD = 8192  # bytes
_TIME = 5.0  # seconds for a visit, from its first byte to its last
_MOST_ASKING = 32
_MOST_WAITING = 64  # for the answer to one path
_MOST_TAKING = 128  # more than can be told at once and are there to take it
_REST = 9  # times as long as the last answers took
_LONGEST_REST = 0.5  # seconds
_READINESS = b"/readyz"
_PATHS = "/healthz, /readyz, /metrics, /status"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


@dataclass(slots=True, eq=False)
class _Asked:
    """A path that so many `waiting` asked for; `answer` is there once it is `answered`."""

    waiting: int = 0
    answered: trio.Event = field(default_factory=trio.Event)
    answer: _Answer | None = None


class _Teller:
    """Makes answers from snapshots that were taken after they were asked for.

    Readiness is that of the last snapshot while we rest from it: its age is that of the rest, and a probe can't wait.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._asked: dict[bytes, _Asked] = {}
        self._wanted = trio.Event()
        self._readiness: _Asked | None = None  # of the snapshot that is being taken, or that we rest from

    async def answer(self, path: bytes) -> _Answer:
        """The answer for a path of _MADE."""
        if path == _READINESS and self._readiness is not None:
            asked = self._readiness
        else:
            asked = self._asked.setdefault(path, _Asked())
            self._wanted.set()
        if asked.waiting >= _MOST_WAITING and not asked.answered.is_set():
            return _CROWDED
        asked.waiting += 1
        await asked.answered.wait()
        return asked.answer or _FAULT

    async def make(self) -> None:
        """Make all answers that were asked for, then rest, until cancelled."""
        while True:
            await self._wanted.wait()
            asked, self._asked, self._wanted = self._asked, {}, trio.Event()
            self._readiness = asked.setdefault(_READINESS, _Asked())
            began = trio.current_time()
            snapshot = await self._take_safely()
            for path, each in asked.items():
                each.answer = _made(path, snapshot)
                each.answered.set()
            await trio.sleep(min(_REST * (trio.current_time() - began), _LONGEST_REST))
            self._readiness = None

    async def _take_safely(self) -> Snapshot | None:
        try:
            return await self._take()
        except Exception as error:  # a fault of ours in telling how the tunnels are must not end them
            _log_fault(error)
            return None


class _Room:
    """Where a visitor who is one too many takes the place of the one who has been here longest."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken: dict[trio.CancelScope, None] = {}

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for as long as the block goes on; it is left in the middle where somebody else takes the place."""
        if len(self._taken) >= self._places:
            longest = next(iter(self._taken))
            del self._taken[longest]
            longest.cancel()
        with trio.CancelScope() as scope:
            self._taken[scope] = None
            try:
                yield
            finally:
                self._taken.pop(scope, None)


@dataclass(frozen=True, slots=True)
class _Desk:
    """Whom visitors ask, and the places of those who keep us waiting: with a request, or to take the answer."""

    teller: _Teller
    asking: _Room = field(default_factory=partial(_Room, _MOST_ASKING))
    taking: _Room = field(default_factory=partial(_Room, _MOST_TAKING))


async def serve(listeners: Sequence[Listener], take: Take) -> None:
    """Answer until cancelled; closes the listeners."""
    desk = _Desk(_Teller(take))

    async def visit(stream: Stream) -> None:
        try:
            with trio.move_on_after(_TIME):
                await _visit(stream, desk)
        finally:
            await trio.aclose_forcefully(stream)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.teller.make)
            for listener in listeners:
                nursery.start_soon(accept_from, listener, visit, nursery, _note_shortage)
    finally:
        with trio.CancelScope(shield=True):
            for listener in listeners:
                await listener.aclose()


def _note_shortage(error: OSError) -> None:
    log.warning("nobody can ask for the status now: %s", error.strerror)


async def _visit(stream: Stream, desk: _Desk) -> None:
    state = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
    request: h11.Request | None = None
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the visitor has gone
        try:
            with desk.asking.place():
                request = await _receive(stream, state)
        except h11.RemoteProtocolError as error:
            answer = _text(HTTPStatus(error.error_status_hint), "this is no request")
        else:
            if request is None:
                return
            answer = await _answer(request, desk.teller)
        with desk.taking.place():
            await _send(stream, state, answer, head_only=request is not None and request.method == b"HEAD")


async def _receive(stream: Stream, state: h11.Connection) -> h11.Request | None:
    while (event := state.next_event()) is h11.NEED_DATA:
        state.receive_data(bytes(await stream.receive_some(_LONGEST_HEAD)))
    return event if isinstance(event, h11.Request) else None


async def _answer(request: h11.Request, teller: _Teller) -> _Answer:
    if request.method not in (b"GET", b"HEAD"):
        return _text(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET")
    path = request.target.partition(b"?")[0]
    if path == b"/healthz":
        return _text(HTTPStatus.OK, "alive")
    if path not in _MADE:
        return _text(HTTPStatus.NOT_FOUND, f"expected one of {_PATHS}")
    return await teller.answer(path)


def _made(path: bytes, snapshot: Snapshot | None) -> _Answer:
    try:
        return _FAULT if snapshot is None else _MADE[path](snapshot)
    except Exception as error:  # likewise
        _log_fault(error)
        return _FAULT


def _log_fault(error: Exception) -> None:
    log.warning("the status can't be told, please report it: %s: %s", type(error).__name__, error, exc_info=error)


def _readiness(snapshot: Snapshot) -> _Answer:
    reasons = unreadiness(snapshot)
    if reasons:
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(reasons))
    return _text(HTTPStatus.OK, "ready")


def _metrics(snapshot: Snapshot) -> _Answer:
    from pytunnel.status.metrics import CONTENT_TYPE, format_metrics  # loaded where somebody asks: it takes its time

    return _Answer(HTTPStatus.OK, format_metrics(snapshot), CONTENT_TYPE)


def _status(snapshot: Snapshot) -> _Answer:
    reasons = unreadiness(snapshot)
    document = {"ready": not reasons, "reasons": reasons, **to_json(snapshot)}
    return _Answer(HTTPStatus.OK, json.dumps(document).encode() + b"\n", "application/json")


def _text(status: HTTPStatus, text: str) -> _Answer:
    return _Answer(status, text.encode() + b"\n")


_MADE: Mapping[bytes, Callable[[Snapshot], _Answer]] = {
    _READINESS: _readiness,
    b"/metrics": _metrics,
    b"/status": _status,
}
_CROWDED = _text(HTTPStatus.SERVICE_UNAVAILABLE, "too many ask for this at the same time; try again")
_FAULT = _text(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of pytunnel's own; its log says more")


async def _send(stream: Stream, state: h11.Connection, answer: _Answer, *, head_only: bool = False) -> None:
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
    ]
    if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    head = h11.Response(status_code=answer.status, reason=answer.status.phrase.encode(), headers=headers)
    await stream.send_all(state.send(head) or b"")
    if not head_only:
        await stream.send_all(answer.body)  # which is the same for all: with a head before it each had a copy
