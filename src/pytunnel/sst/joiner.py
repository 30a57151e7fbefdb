"""The joiner's job: check its own name, listen, let one donor's rsync write the datadir, tell the server the position.

Nothing of the old data is touched before a donor whom the CA vouches for, and who knows the secret, sends files. Each
accepted connection gets an rsync of its own over a socket pair, so no plain port is ever open.
"""

from __future__ import annotations

import hmac
import logging
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from pytunnel.sst import binlog, patience, rsync, server, workplace
from pytunnel.sst.address import Address, format_ready
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.manifest import FILE_SETS
from pytunnel.sst.obstacles import check_replaceable
from pytunnel.sst.pairs import Pairs, pairs
from pytunnel.sst.peers import check_own_name, expected_donor
from pytunnel.sst.plan import PLAN_FILE, parse_failure, parse_plan
from pytunnel.sst.progress import Progress, report
from pytunnel.sst.received import open_received, read_note, remove
from pytunnel.sst.setup import Setup, confine_role
from pytunnel.sst.showing import Showing, shown
from pytunnel.sst.state import State, parse_state
from pytunnel.sst.withholding import withhold
from pytunnel.transport import places, process
from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.transport.errors import TransportError
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.places import Listener, Stream
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.securing import TlsServer
from pytunnel.tunnel.tunnel import Dial, Limits, Tunnel

log = logging.getLogger(__name__)

_DRAIN_LIMIT = 5.0  # seconds; what is open when the state file has come is the rest of a connection that was cut
_COMPLAINTS = ("rsync:", "rsync error:", "ERROR", "failed", "denied", "mismatch")  # in lines of rsync's log


@dataclass(slots=True)
class _Reception:
    """One transfer that is coming in."""

    setup: Setup
    secret: rsync.Secret | None
    private: Path
    progress: Progress
    showing: Showing
    tunnel: Tunnel | None = None
    last_failure: str | None = None
    last_complaint: str | None = None
    given_up: str | None = None
    present: set[Connection] = field(default_factory=set)
    news: trio.Event = field(default_factory=trio.Event)

    @property
    def state_file(self) -> Path:
        return self.setup.layout.datadir / self.setup.method.state_file

    def observe(self, connection: Connection) -> None:
        """Follow each connection; when one has ended, look what it brought."""
        self.showing.observe(connection)
        if connection.session is not None:
            self.progress.observe(connection)
            self.present.add(connection)
        if connection.ended:
            self.present.discard(connection)
            self._take_what_came(connection)
        self.news.set()
        self.news = trio.Event()

    def _take_what_came(self, connection: Connection) -> None:
        if connection.failure is not None:
            if connection.session is not None or connection.refused:  # a stranger's failure explains nothing
                self.last_failure = connection.failure
            if not connection.hushed:
                log.warning("%s", connection.failure)
        note = self._note()
        self.given_up = _donors_reason(note)
        if self.progress.total is None and (plan := parse_plan(note)) is not None:
            self.progress.total = plan
            name = connection.session.peer_name if connection.session is not None else "no certificate"
            log.info("%s with %s sends %d files, %d bytes", connection.source, name, plan.files, plan.bytes)
        # A donor whose connection was cut may not know that the state file has arrived, and come again.
        if self.tunnel is not None and connection.failure is None and self.state_file.exists():
            self.tunnel.drain()

    def _note(self) -> str:
        """What the donor announced or gave up for; an old one says nothing. A note that is none ends no transfer."""
        path = self.private / PLAN_FILE / PLAN_FILE
        if not os.path.lexists(path):
            return ""
        try:
            return read_note(path)
        except SstError as error:
            log.warning("%s", error)
            return ""

    def reasons(self) -> list[str]:
        """What went wrong so far: the donor's note may lie here already while its connection has not ended yet."""
        found = (_donors_reason(self._note()), self.last_failure, self.last_complaint)
        return [text for text in found if text is not None]

    def patience(self) -> float:
        """Seconds that nothing need happen."""
        if self.present:
            return math.inf
        if self.state_file.exists():
            return patience.SETTLE_LIMIT
        return math.inf if self.progress.total is None else patience.ABSENCE_LIMIT


async def join(setup: Setup) -> None:
    """Receive one snapshot, from the first check to the position; raises PytunnelError."""
    request, layout = setup.request, setup.layout
    warning = await check_own_name(request.address.host, setup.settings, setup.credentials.certificate)
    if warning is not None:
        log.warning("%s", warning)
    layout.datadir.mkdir(parents=True, exist_ok=True)
    # Also where the missing transactions (IST) would do: the donor decides that later, when all is announced.
    check_replaceable(layout)
    async with workplace.claim(request.datadir):
        with (
            workplace.private_directory(request.datadir, layout.tmpdir) as private,
            workplace.in_progress(request.datadir),
        ):
            secret = None if setup.settings.legacy_donor else rsync.Secret(rsync.USER, secrets.token_hex(32))
            progress = Progress("received")
            reception = _Reception(setup, secret, private, progress, Showing(setup, progress))
            try:
                async with shown(reception.showing):
                    state = await _receive(reception)
                    if not state.bypass:
                        _warn_of_aria(reception)
                        await trio.to_thread.run_sync(_unpack_binlogs, reception)
            except* trio.Cancelled:
                # Who cancels, a server that gives up for example, knows nothing of what went wrong here.
                if reasons := reception.reasons():
                    raise SstError("; ".join(reasons), exit_code=ExitCode.BROKEN_OFF) from None
                raise
            finally:
                remove(reception.state_file)
                remove(layout.datadir / binlog.ARCHIVE)
    server.say(str(state.position))


async def _receive(reception: _Reception) -> State:
    setup = reception.setup
    remove(reception.state_file)
    remove(setup.layout.datadir / binlog.ARCHIVE)  # of a run that was killed: its binlogs are not this donor's
    listeners = await _listen(setup)
    reading, writing = os.pipe()
    config = _write_config(reception, f"/dev/fd/{writing}")
    await confine_role(setup, reception.private)
    announced = replace(setup.request.address, port=_announced_port(setup, listeners), module=setup.method.module)
    try:
        async with pairs() as connections, trio.open_nursery() as nursery:
            reception.tunnel = _tunnel(reception, lambda: _start_rsync(config, writing, connections))
            reception.showing.tunnel = reception.tunnel
            nursery.start_soon(report, reception.progress)
            nursery.start_soon(_log_rsync, reading, reception)
            nursery.start_soon(_watch_donor, reception, reception.tunnel)
            server.say(format_ready(announced, reception.secret))
            await reception.tunnel.serve(listeners)
            nursery.cancel_scope.cancel()
        state = parse_state(read_note(reception.state_file))
        _check_secret(state, reception)
    except BaseException:
        if reception.progress.total is not None:  # the donor has begun to write
            withhold(setup.layout)
        raise
    finally:
        os.close(writing)
    if not state.bypass:
        log.info("%s", reception.progress.closing_line())
    return state


def _tunnel(reception: _Reception, start_rsync: Dial) -> Tunnel:
    """The tunnel from donors to an rsync for each connection."""
    setup = reception.setup
    return Tunnel(
        start_rsync,
        "rsync",
        Limits(mute=patience.MUTE_LIMIT, drain=_DRAIN_LIMIT),
        server=TlsServer(setup.context, expected_donor(setup.settings, setup.credentials), Limits().handshake),
        sockets=setup.settings.sockets,
        observe=reception.observe,
    )


async def _watch_donor(reception: _Reception, tunnel: Tunnel) -> None:
    """Raise SstError when the donor gives up, or is not heard of for too long once it has begun."""
    while True:
        with trio.move_on_after(reception.patience()):
            await reception.news.wait()
            if reception.given_up is not None:
                raise SstError(reception.given_up, exit_code=ExitCode.BROKEN_OFF)
            continue
        if reception.state_file.exists():
            tunnel.drain()
            return
        raise SstError(
            f"the donor has had no connection for {patience.ABSENCE_LIMIT:g} s and did not say why; its log may tell",
            exit_code=ExitCode.BROKEN_OFF,
        )


async def _listen(setup: Setup) -> list[Listener]:
    """Listen at the announced address where it is this host's, else (behind NAT) at all of them; or for WebSockets."""
    address = setup.request.address
    sockets, web_socket = setup.settings.sockets, setup.settings.route.listen
    if web_socket is not None:
        listeners = await places.open_listeners(web_socket, sockets)
    else:
        listeners = await _listen_at(address, sockets)
    names = ", ".join(map(str, _bound(listeners)))
    way = "" if web_socket is None else f", in WebSockets ({web_socket.path}),"
    log.info("listening at %s%s for a donor that %s", names, way, _demanded(setup))
    return list(listeners)


async def _listen_at(address: Address, sockets: SocketOptions) -> Sequence[Listener]:
    try:
        return await places.open_listeners(TcpEndpoint(address.host, address.port), sockets)
    except TransportError as error:
        if error.port_taken:
            raise
        log.info("%s; listening on all addresses instead", error)
        return await places.open_listeners(TcpEndpoint("", address.port), sockets)


def _announced_port(setup: Setup, listeners: Sequence[Listener]) -> int:
    """The port of the ready line; that of WebSockets is for the proxy in front of them, and no donor's."""
    return setup.request.address.port if setup.settings.route.listen is not None else _bound(listeners)[0].port


def _bound(listeners: Sequence[Listener]) -> list[TcpEndpoint]:
    return [place for place in map(places.bound_at, listeners) if place is not None]


def _demanded(setup: Setup) -> str:
    if setup.settings.legacy_donor:
        return "the CA vouches for (legacy-donor=1: it need not know this transfer's secret)"
    if not setup.settings.tls.verify:
        return "knows this transfer's secret (verify=0: its certificate is NOT checked)"
    return "the CA vouches for and that knows this transfer's secret"


def _write_config(reception: _Reception, log_file: str) -> Path:
    """rsync's configuration; missing directories are made: rsync serves and Landlock permits only what exists."""
    layout, module = reception.setup.layout, reception.setup.method.module
    plan_directory = reception.private / PLAN_FILE
    plan_directory.mkdir(mode=0o700)
    files = None if reception.secret is None else (reception.setup.method.state_file, binlog.ARCHIVE)
    modules = [
        rsync.data_module(module, layout.datadir, layout.nested_places(), files),
        rsync.Module(module + rsync.PLAN_SUFFIX, plan_directory, (f"/{PLAN_FILE}",)),
    ]
    for each in FILE_SETS:
        directory = layout.directory_of(each)
        directory.mkdir(parents=True, exist_ok=True)
        modules.append(rsync.set_module(module + each.suffix, directory, each))
    for directory in layout.binlog.directories if layout.binlog is not None else ():
        directory.mkdir(parents=True, exist_ok=True)
    secrets_file = None
    if reception.secret is not None:
        line = f"{reception.secret.user}:{reception.secret.password}\n"
        secrets_file = workplace.write_private(reception.private / "secrets", line)
    text = rsync.daemon_config(modules, secrets_file, log_file)
    return workplace.write_private(reception.private / "rsyncd.conf", text)


async def _start_rsync(config: Path, log_descriptor: int, connections: Pairs) -> Stream:
    try:
        pair = await connections.make()
    except OSError as error:
        raise TransportError(f"rsync can't be started: {error.strerror}") from error
    return await process.spawn(
        rsync.daemon_command(config),
        environment=rsync.client_environment(os.environ, None),
        stderr=log_descriptor,
        pass_fds=(log_descriptor,),
        pair=pair,
    )


async def _log_rsync(descriptor: int, reception: _Reception) -> None:
    """Put what the joiner's rsync processes complain of into the log, and keep the last of it for the final error."""
    async with trio.lowlevel.FdStream(descriptor) as stream:
        unfinished = b""
        async for data in stream:
            *lines, unfinished = (unfinished + data).split(b"\n")
            for line in lines:
                text = f"rsync says: {line.decode(errors='replace')}"
                if not any(word in text for word in _COMPLAINTS):
                    log.debug("%s", text)
                    continue
                log.warning("%s", text)
                if "rsync error:" not in text:  # that line only repeats the exit code
                    reception.last_complaint = text


def _donors_reason(note: str) -> str | None:
    reason = parse_failure(note)
    return None if reason is None else f"the donor gave up: {reason}"


def _check_secret(state: State, reception: _Reception) -> None:
    """The donor repeats the secret in the state file; another text means that the file is not this transfer's."""
    if reception.secret is not None and not hmac.compare_digest(state.secret or "", reception.secret.password):
        raise SstError("the state file does not hold this transfer's secret: the data can't be trusted")


def _warn_of_aria(reception: _Reception) -> None:
    """Aria tables without their log come up as damaged; a donor that knows the secret sends the log."""
    if reception.secret is None and reception.progress.total is None:
        log.warning(
            "an old donor sent no Aria logs: Aria tables may be reported as corrupt. When this node runs, do: "
            "mariadb-check --all-databases --auto-repair"
        )


def _unpack_binlogs(reception: _Reception) -> None:
    archive = reception.setup.layout.datadir / binlog.ARCHIVE
    place = reception.setup.layout.binlog
    if place is None or not archive.exists():
        return
    with open_received(archive) as file:
        names = binlog.unpack(place, file, trio.from_thread.check_cancelled)
    log.info("binlogs that came with the snapshot: %s", ", ".join(names) or "none")
