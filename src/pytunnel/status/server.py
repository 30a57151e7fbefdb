"""Tell over HTTP how this process is: `/healthz`, `/readyz`, `/metrics`, `/status`; one request a connection.

Whoever can reach the port may ask, so nothing here is secret, and nobody can take much: a request has a few seconds and
a few kilobytes, and one visitor too many takes the place of the one who has been here longest. To tell how the process
is takes a tenth of its time at most, however many ask: who asks meanwhile waits, and is told together with the others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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
_VISITORS = 32
_REST = 9  # times as long as the last answers took
_LONGEST_REST = 0.5  # seconds
_PATHS = "/healthz, /readyz, /metrics, /status"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


@dataclass(slots=True, eq=False)
class _Asked:
    """A path that somebody asked for; `answer` is there once it is `answered`."""

    answered: trio.Event = field(default_factory=trio.Event)
    answer: _Answer | None = None


class _Teller:
    """Makes answers from snapshots that were taken after they were asked for."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._asked: dict[bytes, _Asked] = {}
        self._wanted = trio.Event()

    async def answer(self, path: bytes) -> _Answer:
        """The answer for a path of _MADE."""
        asked = self._asked.setdefault(path, _Asked())
        self._wanted.set()
        await asked.answered.wait()
        return asked.answer or _FAULT

    async def make(self) -> None:
        """Make all answers that were asked for, then rest, until cancelled."""
        while True:
            await self._wanted.wait()
            asked, self._asked, self._wanted = self._asked, {}, trio.Event()
            began = trio.current_time()
            snapshot = await self._take_safely()
            for path, each in asked.items():
                each.answer = _made(path, snapshot)
                each.answered.set()
            await trio.sleep(min(_REST * (trio.current_time() - began), _LONGEST_REST))

    async def _take_safely(self) -> Snapshot | None:
        try:
            return await self._take()
        except Exception as error:  # a fault of ours in telling how the tunnels are must not end them
            _log_fault(error)
            return None


async def serve(listeners: Sequence[Listener], take: Take) -> None:
    """Answer until cancelled; closes the listeners."""
    visits: dict[Stream, trio.CancelScope] = {}
    teller = _Teller(take)

    async def visit(stream: Stream) -> None:
        if len(visits) >= _VISITORS:
            visits.pop(next(iter(visits))).cancel()
        try:
            with trio.move_on_after(_TIME) as visits[stream]:
                await _visit(stream, teller)
        finally:
            visits.pop(stream, None)
            await trio.aclose_forcefully(stream)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(teller.make)
            for listener in listeners:
                nursery.start_soon(accept_from, listener, visit, nursery, _note_shortage)
    finally:
        with trio.CancelScope(shield=True):
            for listener in listeners:
                await listener.aclose()


def _note_shortage(error: OSError) -> None:
    log.warning("nobody can ask for the status now: %s", error.strerror)


async def _visit(stream: Stream, teller: _Teller) -> None:
    state = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the visitor has gone
        try:
            request = await _receive(stream, state)
        except h11.RemoteProtocolError as error:
            await _send(stream, state, _text(HTTPStatus(error.error_status_hint), "this is no request"))
            return
        if request is not None:
            await _send(stream, state, await _answer(request, teller), head_only=request.method == b"HEAD")


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
    b"/readyz": _readiness,
    b"/metrics": _metrics,
    b"/status": _status,
}
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
    await stream.send_all((state.send(head) or b"") + (b"" if head_only else answer.body))
