"""The donor's rsync runs: each hands its connection over, which is dialled to the joiner and carried inside TLS."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import trio

from pytunnel.relay import Traffic
from pytunnel.sst import rsync
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.progress import Progress
from pytunnel.tunnel import Connection, Tunnel

_LISTING = 60.0  # seconds for the joiner to answer our first question
_CLOSING = 15.0  # seconds that the tunnel has to say good-bye after rsync has ended


@dataclass(frozen=True, slots=True)
class Courier:
    """Runs rsync towards one joiner at `place`; `progress` is shown each connection that carries data."""

    tunnel: Tunnel
    place: str
    secret: rsync.Secret | None
    progress: Progress

    async def list_modules(self) -> frozenset[str]:
        """What the joiner's rsync offers; raises SstError when it can't be reached or isn't trusted."""
        connection = Connection("rsync", self.place, Traffic())
        try:
            with trio.fail_after(_LISTING):
                listing = await self._run(["joiner::"], b"", connection)
        except trio.TooSlowError as error:
            text = f"{self.place} did not say within {_LISTING:g} s what it offers"
            raise SstError(text, exit_code=ExitCode.BROKEN_OFF) from error
        return rsync.parse_module_list(listing.decode(errors="replace"))

    async def check_access(self, file: Path, module: str) -> None:
        """Find out whether the joiner would take a file; raises SstError."""
        connection = Connection("rsync", self.place, Traffic())
        await self._run(rsync.access_arguments(file, self.target(module)), b"", connection)

    async def send(self, arguments: list[str], stdin: bytes = b"") -> None:
        """One rsync run; raises SstError unless everything arrived."""
        connection = Connection("rsync", self.place, Traffic())
        self.progress.observe(connection)
        await self._run(arguments, stdin, connection)

    def target(self, module: str, path: str = "") -> str:
        """rsync's last argument for a module of the joiner."""
        return rsync.destination(module, self.secret, path)

    async def _run(self, arguments: list[str], stdin: bytes, connection: Connection) -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, ours, connection)
                done = await self._start(rsync.client_command(theirs.fileno(), *arguments), stdin, theirs)
                theirs.close()  # where nothing was handed over, _carry now sees the end
                nursery.cancel_scope.deadline = trio.current_time() + _CLOSING
        if done.returncode not in (0, rsync.VANISHED):
            raise self._failure(done, connection)
        return done.stdout

    async def _start(
        self, command: list[str], stdin: bytes, control: socket.socket
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return await trio.run_process(
                command,
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                pass_fds=(control.fileno(),),
                env=rsync.client_environment(os.environ, self.secret),
                process_group=0,
            )
        except OSError as error:
            raise SstError(f"rsync can't be started: {error.strerror}", exit_code=ExitCode.MISSING) from error

    async def _carry(self, control: socket.socket, connection: Connection) -> None:
        await trio.lowlevel.wait_readable(control)
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message or len(descriptors) != 2:
            return  # rsync ended before it wanted a connection; its exit code says why
        reading, writing = (trio.lowlevel.FdStream(descriptor) for descriptor in descriptors)
        await self.tunnel.carry(trio.StapledStream(writing, reading), connection)

    def _failure(self, done: subprocess.CompletedProcess[bytes], connection: Connection) -> SstError:
        """Why it failed: rsync's reason where it has one of its own, for it may only see a connection that ends."""
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        said = [line for line in words if line and not line.startswith("rsync error:")]
        if connection.failure is not None and not (connection.session and rsync.blames_files(done.returncode, said)):
            broken = "the transfer broke off: " if self.progress.moved else ""
            return SstError(f"{broken}{connection.failure}", exit_code=ExitCode.BROKEN_OFF)
        return rsync.failure(done.returncode, (said or words or [""])[0])
