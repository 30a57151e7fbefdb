"""The donor's rsync runs: each hands its connection over, to be carried inside TLS; a run that was cut is repeated."""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import trio

from pytunnel.sst import rsync
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.patience import Tries, Trouble, trouble_of
from pytunnel.sst.progress import Progress, size
from pytunnel.sst.sendbuffers import SendBuffers
from pytunnel.transport.sockets import SocketStream
from pytunnel.tunnel.connection import Connection, Observer
from pytunnel.tunnel.relay import Traffic
from pytunnel.tunnel.tunnel import Tunnel

log = logging.getLogger(__name__)

_LISTING = 60.0  # seconds for the joiner to answer our first question
_CLOSING = 15.0  # seconds that the tunnel has to say good-bye after rsync has ended
_NUMBER = 20  # bytes of a process's number


class RunFailed(SstError):
    """One rsync run that failed; `trouble` says whether another one may end well."""

    def __init__(self, message: str, trouble: Trouble, exit_code: int) -> None:
        super().__init__(message, exit_code=exit_code)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Courier:
    """Runs rsync towards one joiner at `place`; `progress` is shown each connection that carries data."""

    tunnel: Tunnel
    place: str
    secret: rsync.Secret | None
    progress: Progress
    buffers: SendBuffers = field(default_factory=SendBuffers)

    async def list_modules(self) -> frozenset[str]:
        """What the joiner's rsync offers; raises SstError when it can't be reached or isn't trusted."""
        try:
            with trio.fail_after(_LISTING):
                # A wrong address is told at once: only a joiner that we have met is worth the wait.
                listing = await self._run_until_done(["joiner::"], met=False)
        except trio.TooSlowError as error:
            text = f"{self.place} did not say within {_LISTING:g} s what it offers"
            raise SstError(text, exit_code=ExitCode.BROKEN_OFF) from error
        return rsync.parse_module_list(listing.decode(errors="replace"))

    async def check_access(self, file: Path, module: str) -> None:
        """Find out whether the joiner would take a file; raises SstError."""
        await self._run_until_done(rsync.access_arguments(file, self.target(module)))

    async def send(self, arguments: list[str], stdin: bytes = b"") -> None:
        """Send what one rsync run sends, in as many tries as it takes; raises SstError unless everything arrived."""
        await self._run_until_done(arguments, stdin, observe=self.progress.observe)

    async def tell(self, file: Path, module: str) -> None:
        """Send a note that nobody waits for, in one try; raises SstError."""
        connection = Connection("rsync", self.place, Traffic())
        await self._run(rsync.note_arguments(file, self.target(module, file.name)), b"", connection)

    def target(self, module: str, path: str = "") -> str:
        """rsync's last argument for a module of the joiner."""
        return rsync.destination(module, self.secret, path)

    async def _run_until_done(
        self, arguments: list[str], stdin: bytes = b"", *, met: bool = True, observe: Observer | None = None
    ) -> bytes:
        """Run rsync, again where the failure may pass; what has arrived is not sent twice. Returns what it printed."""
        tries = Tries()
        while True:
            connection = Connection("rsync", self.place, Traffic())
            if observe is not None:
                observe(connection)
            try:
                return await self._run(arguments, stdin, connection)
            except RunFailed as error:
                moved = connection.traffic.outward
                trouble = error.trouble if met or connection.session is not None else Trouble.LASTING
                wait = tries.wait_after(trouble, moved, trio.current_time())
                if wait is None:
                    raise self._given_up(error, tries) from error
                log.warning("a connection failed after %s: %s; trying again in %g s", size(moved), error, wait)
            await trio.sleep(wait)
            arguments = rsync.resumed(arguments)

    async def _run(self, arguments: list[str], stdin: bytes, connection: Connection) -> bytes:
        """One rsync run; raises RunFailed."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # this process has no file descriptor left; other streams give some back
            raise RunFailed(f"no rsync can be started: {error.strerror}", Trouble.PROGRAM, ExitCode.OTHER) from error
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, ours, connection)
                done = await self._start(rsync.client_command(theirs.fileno(), *arguments), stdin, theirs)
                theirs.close()  # where nothing was handed over, _carry now sees the end
                nursery.cancel_scope.deadline = trio.current_time() + _CLOSING
        if isinstance(done, RunFailed):
            raise done
        if done.returncode not in (0, rsync.VANISHED):
            raise self._failure(done, connection)
        return done.stdout

    async def _start(
        self, command: list[str], stdin: bytes, control: socket.socket
    ) -> subprocess.CompletedProcess[bytes] | RunFailed:
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
            passing = error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
            trouble = Trouble.PROGRAM if passing else Trouble.LASTING
            return RunFailed(f"rsync can't be started: {error.strerror}", trouble, ExitCode.MISSING)

    async def _carry(self, control: socket.socket, connection: Connection) -> None:
        await trio.lowlevel.wait_readable(control)
        message, descriptors, _, _ = socket.recv_fds(control, _NUMBER, 2)
        if not message or len(descriptors) != 2:
            for descriptor in descriptors:
                os.close(descriptor)  # the other one found no room in this process
            return  # rsync ended before it wanted a connection; its exit code says why
        self.buffers.enlarge(int(message))
        # rsync has a socket pair for each way
        reading, writing = (SocketStream(trio.socket.socket(fileno=descriptor)) for descriptor in descriptors)
        await self.tunnel.carry(trio.StapledStream(writing, reading), connection)

    def _failure(self, done: subprocess.CompletedProcess[bytes], connection: Connection) -> RunFailed:
        """Why it failed: rsync's reason where it has one of its own, for it may only see a connection that ends."""
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        said = [line for line in words if line and not line.startswith("rsync error:")]
        blames_files = rsync.blames_files(done.returncode, said)
        killed = done.returncode < 0  # which the connection has to suffer from too
        if connection.failure is not None and not killed and not (connection.session and blames_files):
            return RunFailed(connection.failure, trouble_of(connection.error), ExitCode.BROKEN_OFF)
        failure = rsync.failure(done.returncode, (said or words or [""])[0])
        passing = rsync.may_pass(done.returncode) and not blames_files
        return RunFailed(str(failure), Trouble.PROGRAM if passing else Trouble.LASTING, failure.exit_code)

    def _given_up(self, error: RunFailed, tries: Tries) -> SstError:
        broken = "the transfer broke off: " if self.progress.moved else ""
        count = f" (given up after {tries.count} tries without progress)" if tries.count > 1 else ""
        return SstError(f"{broken}{error}{count}", exit_code=error.exit_code)
