"""The donor's job: flush the server, send every file of the snapshot, tell both servers its position."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from pytunnel.errors import PytunnelError
from pytunnel.sst import binlog, manifest, patience, rsync, server, workplace
from pytunnel.sst.donation import Courier
from pytunnel.sst.errors import ExitCode, SstError, known, refused
from pytunnel.sst.filewatch import wait_for
from pytunnel.sst.manifest import FILE_SETS, Amount, Entry, FileSet
from pytunnel.sst.obstacles import check_carriable
from pytunnel.sst.peers import expected_joiner
from pytunnel.sst.plan import PLAN_FILE, format_failure, format_plan
from pytunnel.sst.progress import Progress, report
from pytunnel.sst.received import remove
from pytunnel.sst.setup import Setup, confine_role
from pytunnel.sst.showing import Showing, shown
from pytunnel.sst.state import Position, State, format_state, parse_position
from pytunnel.transport import places
from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.transport.places import Stream
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.securing import make_client
from pytunnel.tunnel.tunnel import Limits, Tunnel

log = logging.getLogger(__name__)

_FLUSHED = "tables_flushed"
_FLUSH_FAILED = "sst_error"
_LAST_WORDS = 3.0  # seconds that telling the joiner of a failure may take


@dataclass(frozen=True, slots=True)
class _Donation:
    """One transfer on its way: whom to send to, what the joiner offers, where our own files may lie."""

    setup: Setup
    courier: Courier
    modules: frozenset[str]
    private: Path
    progress: Progress

    @property
    def datadir(self) -> Path:
        return self.setup.layout.datadir

    @property
    def left_out(self) -> tuple[Path, ...]:
        return self.setup.layout.nested_places()

    @property
    def module(self) -> str:
        return self.setup.method.module

    @property
    def plan_module(self) -> str:
        """Offered only by a joiner of ours."""
        return self.module + rsync.PLAN_SUFFIX

    def module_of(self, files: FileSet) -> str:
        """The set's own module; an old joiner has only some of them, and gets the files into its datadir."""
        name = self.module + files.suffix
        return name if name in self.modules else self.module


async def donate(setup: Setup) -> None:
    """Serve one joiner, from the first check to `done`; raises PytunnelError, and then nothing of ours is left."""
    request = setup.request
    progress = Progress("sent")
    async with workplace.claim(request.datadir):
        _remove_remains(setup)
        with workplace.private_directory(request.datadir, setup.layout.tmpdir) as private:
            await confine_role(setup, private)
            showing = Showing(setup, progress)
            async with shown(showing):
                courier = await _make_courier(setup, showing)
                modules = await courier.list_modules()
                if setup.method.module not in modules:
                    raise SstError(
                        f"{courier.place} offers no rsync module {setup.method.module}; does it use this SST method?",
                        exit_code=ExitCode.PROTOCOL,
                    )
                await _serve(_Donation(setup, courier, modules, private, progress))


def _remove_remains(setup: Setup) -> None:
    """Remove what a joiner that was killed has left: this node donates, and health probes take it for a joiner."""
    for name in (workplace.IN_PROGRESS, setup.method.state_file, binlog.ARCHIVE):
        path = setup.request.datadir / name
        try:
            remove(path)
        except OSError as error:
            log.warning("%s, which an earlier transfer left, can't be removed: %s", path, error.strerror)


async def _serve(donation: _Donation) -> None:
    datadir = donation.setup.request.datadir
    async with _failure_told(donation):
        await _check_before_flush(donation)
        if donation.setup.request.bypass:
            await _bypass(donation)
            return
        try:
            await _full(donation)
        finally:
            # The server writes this file twice within a millisecond, the second time after we took it.
            (datadir / _FLUSHED).unlink(missing_ok=True)
            (datadir / binlog.ARCHIVE).unlink(missing_ok=True)


@asynccontextmanager
async def _failure_told(donation: _Donation) -> AsyncIterator[None]:
    """Tell a joiner of ours why it gets nothing more: otherwise it would only see that nothing comes."""
    try:
        yield
    except BaseException as error:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_WORDS):
            await _tell_of_failure(donation, error)
        raise


async def _tell_of_failure(donation: _Donation, error: BaseException) -> None:
    if donation.plan_module not in donation.modules:
        return
    reasons = [str(each) for each in known(error, PytunnelError)]
    reasons += [refused(each) for each in known(error, OSError)]
    reason = reasons[0] if reasons else "it was told to end, or its server has gone"
    with suppress(SstError):  # a joiner that can't be reached any more
        note = workplace.write_private(donation.private / PLAN_FILE, format_failure(reason))
        await donation.courier.tell(note, donation.plan_module)


async def _check_before_flush(donation: _Donation) -> None:
    """Find out what would make the transfer fail while the server still runs freely."""
    if donation.plan_module in donation.modules:
        note = workplace.write_private(donation.private / PLAN_FILE, "")
        await donation.courier.check_access(note, donation.plan_module)
    if donation.setup.request.bypass:
        return
    await _check_compression(donation.setup.settings.saving.compress)
    if donation.setup.layout.binlog is not None:
        await trio.to_thread.run_sync(binlog.check_packing, donation.setup.layout.binlog, donation.datadir)
    await trio.to_thread.run_sync(check_carriable, donation.setup.layout, abandon_on_cancel=True)


async def _check_compression(name: str | None) -> None:
    """Whether our own rsync has it; raises SstError."""
    if name is None:
        return
    try:
        done = await trio.run_process(["rsync", "--version"], capture_stdout=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SstError(f"rsync can't be asked for its version: {error}", exit_code=ExitCode.MISSING) from error
    known_ones = rsync.parse_compressions(done.stdout.decode(errors="replace"))
    if name not in known_ones:
        raise SstError(
            f"compress in [sst] is {name!r}, and this node's rsync has {', '.join(sorted(known_ones)) or 'none'}; "
            "choose another, or install an rsync with it on both nodes",
            exit_code=ExitCode.BAD_SETTING,
        )


async def _make_courier(setup: Setup, showing: Showing) -> Courier:
    address = setup.request.address
    joiner = TcpEndpoint(address.host, address.port)
    target = setup.settings.route.to(address)
    places.check_dialling(target, setup.settings.sockets)
    limits = Limits(mute=patience.MUTE_LIMIT)
    expected = await expected_joiner(address.host, setup.settings, setup.credentials)
    client = make_client(joiner, setup.settings.tls, setup.context, expected, limits.handshake)
    log.info("sending to %s, where %s is expected", target, expected if setup.settings.tls.verify else "anyone")

    async def dial() -> Stream:
        return await places.dial(target, setup.settings.sockets)

    showing.tunnel = Tunnel(dial, str(target), limits, client=client, observe=partial(_note, showing))
    return Courier(showing.tunnel, str(target), setup.request.secret, showing.progress)


def _note(showing: Showing, connection: Connection) -> None:
    showing.observe(connection)
    if connection.ended:
        log.debug("%s: %d bytes out, %d in", connection.target, connection.traffic.outward, connection.traffic.inward)


async def _bypass(donation: _Donation) -> None:
    """The joiner has the data and gets the missing transactions (IST): only the position is sent."""
    request = donation.setup.request
    position = replace(parse_position(request.gtid or ""), domain=request.gtid_domain_id)
    log.info("no data to send, the joiner takes the missing transactions (IST)")
    server.say("continue")
    await _send_state(donation, position, bypass=True)
    server.say(f"done {position}")


async def _full(donation: _Donation) -> None:
    position = await _flush_tables(donation.datadir)
    await trio.to_thread.run_sync(os.sync, abandon_on_cancel=True)
    list_schemas = partial(manifest.list_schemas, donation.datadir, donation.left_out)
    entries = await trio.to_thread.run_sync(list_schemas, abandon_on_cancel=True)
    total = manifest.total(entries) + _measure_sets(donation)
    archive = await trio.to_thread.run_sync(_pack_binlogs, donation)
    if archive is not None:
        total += Amount(archive.stat().st_size, 1)
    donation.progress.total = total
    async with trio.open_nursery() as nursery:  # both are a matter of round trips
        nursery.start_soon(_announce, donation, total)
        nursery.start_soon(_withhold, donation)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report, donation.progress)
        await _send_files(donation, entries)
        if archive is not None:
            target = donation.courier.target(donation.module, archive.name)
            await donation.courier.send(rsync.file_arguments(archive, target, donation.setup.settings.saving))
        nursery.cancel_scope.cancel()
    server.say("continue")  # from here on the server writes again, and nothing of the snapshot may be read
    await _send_state(donation, position, bypass=False)
    log.info("%s", donation.progress.closing_line())
    server.say(f"done {position}")


async def _flush_tables(datadir: Path) -> Position:
    """Let the server flush and lock its tables; returns the snapshot's position.

    Raises SstError when the server says that it couldn't.
    """
    flushed, failed = datadir / _FLUSHED, datadir / _FLUSH_FAILED
    flushed.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)

    def look() -> str | None:
        if failed.exists():
            failed.unlink()
            raise SstError("the server could not flush its tables; its log says why")
        try:
            text = flushed.read_text()
        except FileNotFoundError:
            return None
        return text if ":" in text else None

    log.info("waiting for the server to flush its tables")
    server.say("flush tables")
    position = parse_position(await wait_for(datadir, look))
    flushed.unlink(missing_ok=True)
    log.info("tables are flushed at %s", position)
    return position


def _measure_sets(donation: _Donation) -> Amount:
    total = Amount()
    for files in FILE_SETS:
        total += manifest.measure(donation.setup.layout.directory_of(files), files)
    return total


def _pack_binlogs(donation: _Donation) -> Path | None:
    """The archive lies in the datadir: it may be as large as the binlogs, and a tmpdir may be small."""
    archive = donation.datadir / binlog.ARCHIVE
    layout = donation.setup.layout
    if layout.binlog is None:
        return None
    workplace.write_private(archive, "")
    with archive.open("wb") as file:
        packed = binlog.pack(layout.binlog, file, trio.from_thread.check_cancelled)
    log.info("binlogs that go with the snapshot: %s", ", ".join(packed) or "none")
    return archive


async def _announce(donation: _Donation, total: Amount) -> None:
    """Tell a joiner that wants to know how much will come; it is for its log alone."""
    log.info("snapshot of %d files, %d bytes", total.files, total.bytes)
    if donation.plan_module in donation.modules:
        plan = workplace.write_private(donation.private / PLAN_FILE, format_plan(total))
        target = donation.courier.target(donation.plan_module, PLAN_FILE)
        await donation.courier.send(rsync.note_arguments(plan, target))


async def _send_files(donation: _Donation, entries: list[Entry]) -> None:
    """Delete what the joiner has too much, then send: the schemas, the sets, and last what lets a server start."""
    courier, datadir = donation.courier, donation.datadir
    first, last = manifest.keep_back(entries)
    guarded = donation.plan_module in donation.modules
    target = courier.target(donation.module)
    await courier.send(rsync.delete_arguments(datadir, donation.left_out, target, guarded=guarded))
    await _send_schemas(donation, first)
    layout = donation.setup.layout
    sets = [(files, layout.directory_of(files), courier.target(donation.module_of(files))) for files in FILE_SETS]
    saving = donation.setup.settings.saving
    await _send_each(
        donation, [rsync.set_arguments(directory, files, target, saving) for files, directory, target in sets]
    )
    await _send_schemas(donation, last)


async def _withhold(donation: _Donation) -> None:
    """Delete at the joiner what keeps a server from starting on half a database (pytunnel.sst.withholding)."""
    nothing = donation.private / "nothing"
    nothing.mkdir(mode=0o700)
    target = donation.courier.target(donation.module)
    schema = rsync.delete_schema_arguments(os.fsdecode(manifest.PRIVILEGES), nothing, target)
    sets = [(files, donation.courier.target(donation.module_of(files))) for files in FILE_SETS]
    await _send_each(donation, [schema, *(rsync.delete_set_arguments(files, nothing, place) for files, place in sets)])


async def _send_schemas(donation: _Donation, entries: list[Entry]) -> None:
    """Send files in streams of equal bytes, each of them in one run after another."""
    target, saving = donation.courier.target(donation.module), donation.setup.settings.saving
    arguments = rsync.schema_arguments(donation.datadir, target, saving)

    async def send_stream(stream: list[Entry]) -> None:
        for run in manifest.runs(stream):
            await donation.courier.send(arguments, manifest.file_list(run))

    count = manifest.worthwhile(entries, donation.setup.settings.streams)
    async with trio.open_nursery() as nursery:
        for stream in manifest.plan_streams(entries, count):
            nursery.start_soon(send_stream, stream)


async def _send_each(donation: _Donation, runs: Iterable[list[str]]) -> None:
    """Run rsync with each of these arguments, as many at once as there may be streams."""
    at_work = trio.CapacityLimiter(donation.setup.settings.streams)

    async def send(arguments: list[str]) -> None:
        async with at_work:
            await donation.courier.send(arguments)

    async with trio.open_nursery() as nursery:
        for arguments in runs:
            nursery.start_soon(send, arguments)


async def _send_state(donation: _Donation, position: Position, *, bypass: bool) -> None:
    """The state file goes last: its arrival tells the joiner that everything before it is complete."""
    secret = donation.courier.secret
    state = State(position, secret=secret.password if secret is not None else None, bypass=bypass)
    name = donation.setup.method.state_file
    file = workplace.write_private(donation.private / name, format_state(state))
    await donation.courier.send(rsync.note_arguments(file, donation.courier.target(donation.module, name)))
