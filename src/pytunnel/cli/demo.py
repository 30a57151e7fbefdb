"""`pytunnel demo`: a directory travels through both ends of a tunnel on this machine, by real rsync.

It makes throw-away certificates for two ends with names of their own, lets rsync copy generated files from one to the
other as a state transfer does, shows a progress bar, compares both sides and removes everything.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import rich.progress
import trio
from OpenSSL import SSL
from rich.console import Console

from pytunnel.certs.making import make_key, make_self_signed, valid_for
from pytunnel.certs.names import parse_names
from pytunnel.errors import PytunnelError
from pytunnel.sst import manifest, rsync, workplace
from pytunnel.sst.donation import Courier
from pytunnel.sst.errors import known
from pytunnel.sst.progress import Progress
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import load_credentials
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport import places, process
from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.transport.options import SocketOptions
from pytunnel.transport.places import Stream
from pytunnel.transport.sockets import SocketListener
from pytunnel.tunnel.connection import Connection
from pytunnel.tunnel.securing import TlsServer, make_client
from pytunnel.tunnel.tunnel import Limits, Tunnel

_DONOR, _JOINER = "donor.demo", "joiner.demo"
_MODULE = "demo"
_STREAMS = 2
_FILE = 10 * 1024 * 1024  # bytes
_BLOCK = 1024 * 1024


class DemoError(PytunnelError):
    """The demonstration could not run, or did not show what it should."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """The directories of one demonstration."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "donor"

    @property
    def copy(self) -> Path:
        return self.root / "joiner"


def run(megabytes: int) -> int:
    """Show one transfer of about `megabytes`; returns the exit code. Raises DemoError."""
    if shutil.which("rsync") is None:
        raise DemoError("rsync is not installed; install the package rsync")
    if megabytes < 1:
        raise DemoError("--size: expected a number of megabytes above 0")
    with tempfile.TemporaryDirectory(prefix="pytunnel-demo-") as root:
        try:
            trio.run(_show, _Stage(Path(root)), megabytes)
        except ExceptionGroup as failures:
            if failures.split(PytunnelError)[1] is not None:
                raise
            raise next(known(failures, Exception)) from failures
    return 0


async def _show(stage: _Stage, megabytes: int) -> None:
    console = Console()
    console.print(f"Making {megabytes} MB of files and two certificates: {_DONOR} and {_JOINER} …")
    await trio.to_thread.run_sync(_make_files, stage, megabytes)
    donor, joiner = _make_contexts(stage)
    reception = Tunnel(
        partial(_start_rsync, _write_config(stage)),
        "rsync",
        Limits(),
        server=TlsServer(joiner, ExpectedPeer((_DONOR,)), Limits().handshake),
        observe=_ignore,
    )
    listeners = await places.open_listeners(TcpEndpoint("127.0.0.1", 0), SocketOptions())
    port = next(item.socket.getsockname()[1] for item in listeners if isinstance(item, SocketListener))
    progress = Progress("sent")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reception.serve, listeners)
        courier = _make_courier(TcpEndpoint("127.0.0.1", port), donor, progress)
        await _transfer(stage, courier, progress, console)
        reception.drain()
    console.print(progress.closing_line())
    if not _same(filecmp.dircmp(stage.source, stage.copy)):
        raise DemoError("the copy differs from the original")
    console.print("Both directories are equal. Nothing of this demonstration is left behind.")


def _make_files(stage: _Stage, megabytes: int) -> None:
    """Random bytes, so that nothing can be saved by compressing; the joiner also has a file that must go."""
    schema = stage.source / "shop"
    schema.mkdir(parents=True)
    block = os.urandom(_BLOCK)
    for number in range(max(1, megabytes * _BLOCK // _FILE)):
        with (schema / f"table{number}.ibd").open("wb") as file:
            for _ in range(min(_FILE, megabytes * _BLOCK) // _BLOCK):
                file.write(block)
    (stage.copy / "shop").mkdir(parents=True)
    (stage.copy / "shop" / "dropped.ibd").write_text("the donor has dropped this table")


def _make_contexts(stage: _Stage) -> tuple[SSL.Context, SSL.Context]:
    """The TLS contexts of both ends: each with its own certificate, both with a bundle of the two."""
    made = {name: make_self_signed(parse_names([name]), valid_for(1), make_key()) for name in (_DONOR, _JOINER)}
    bundle = workplace.write_private(stage.root / "bundle.crt", "".join(item.certificate_pem for item in made.values()))
    settings = [
        TlsSettings(certificate=workplace.write_private(stage.root / f"{name}.pem", item.combined_pem), ca=bundle)
        for name, item in made.items()
    ]
    donor, joiner = (make_context(item, load_credentials(item)) for item in settings)
    return donor, joiner


def _write_config(stage: _Stage) -> Path:
    text = rsync.daemon_config([rsync.data_module(_MODULE, stage.copy, (), ())], None)
    return workplace.write_private(stage.root / "rsyncd.conf", text)


async def _start_rsync(config: Path) -> Stream:
    return await process.spawn(rsync.daemon_command(config), stderr=subprocess.DEVNULL)


def _make_courier(target: TcpEndpoint, context: SSL.Context, progress: Progress) -> Courier:
    client = make_client(target, TlsSettings(), context, ExpectedPeer((_JOINER,)), Limits().handshake)

    async def dial() -> Stream:
        return await places.dial(target, SocketOptions())

    tunnel = Tunnel(dial, str(target), Limits(), client=client, observe=_ignore)
    return Courier(tunnel, str(target), None, progress)


def _ignore(_: Connection) -> None:
    """The closing line says enough."""


async def _transfer(stage: _Stage, courier: Courier, progress: Progress, console: Console) -> None:
    entries = manifest.list_schemas(stage.source)
    progress.total = manifest.total(entries)
    target = courier.target(_MODULE)
    await courier.send(rsync.delete_arguments(stage.source, (), target, guarded=False))
    async with trio.open_nursery() as bar:
        bar.start_soon(_draw, progress, progress.total.bytes, console)
        async with trio.open_nursery() as nursery:
            for stream in manifest.plan_streams(entries, _STREAMS):
                arguments = rsync.schema_arguments(stage.source, target, rsync.Saving())
                nursery.start_soon(courier.send, arguments, manifest.file_list(stream))
        await trio.sleep(0.2)  # lets the bar show its end
        bar.cancel_scope.cancel()


async def _draw(progress: Progress, total: int, console: Console) -> None:
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{_DONOR} → {_JOINER}", total=total)
        while True:
            bar.update(task, completed=min(progress.moved, total))
            await trio.sleep(0.1)


def _same(compared: filecmp.dircmp[str]) -> bool:
    mismatches = filecmp.cmpfiles(compared.left, compared.right, compared.common_files, shallow=False)[1:]
    here = not (compared.left_only or compared.right_only or any(mismatches))
    return here and all(_same(below) for below in compared.subdirs.values())
