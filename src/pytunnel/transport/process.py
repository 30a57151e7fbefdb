"""A program as the other end of a connection: its standard input and output are one socket pair.

No other user can reach such a connection, and no port is open for it.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

import trio

from pytunnel.system.exitstatus import described
from pytunnel.transport.errors import ProgramFailed, TransportError
from pytunnel.transport.sockets import SocketStream

GRACE = 5.0
"""Seconds that a program has to end by itself after its connection closed, and again after SIGTERM."""

_ENDING = 1.0  # seconds from a program's end of file until its end, of one that ends


class ProcessStream(trio.abc.HalfCloseableStream):
    """A running program and the connection to it. Closing it ends the program and everything that it started.

    Its input and output are one socket, so a program that closes its output and reads on shows no end of file.
    """

    def __init__(self, process: trio.Process, connection: SocketStream, name: str, *, must_succeed: bool) -> None:
        self.process = process
        self.connection = connection
        self._name = name
        self._must_succeed = must_succeed

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What the program wrote; b"" when it has ended, or closed both its input and its output."""
        return await self.connection.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the program's standard input."""
        await self.connection.send_all(data)

    async def send_eof(self) -> None:
        """Let the program see the end of its standard input."""
        try:
            await self.connection.send_eof()
        except trio.BrokenResourceError:
            return  # it has ended already and needs no end of file

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the program reads."""
        await self.connection.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the connection, then wait for the program; after GRACE seconds SIGTERM, after as many SIGKILL.

        Cancelling shortens nothing but the first wait: a program must not outlive its connection.
        """
        try:
            await trio.aclose_forcefully(self.connection)
            with trio.move_on_after(GRACE):
                await self.process.wait()
        finally:
            with trio.CancelScope(shield=True):
                await _end(self.process)

    async def confirm_end(self) -> None:
        """After its end of file: raise ProgramFailed where the program has to succeed, and did not.

        What it said may be the half of it. One that goes on has said all.
        """
        if not self._must_succeed:
            return
        with trio.move_on_after(_ENDING):
            await self.process.wait()
        if self.process.returncode:
            raise ProgramFailed(f"the program {self._name} ended with {described(self.process.returncode)}")

    async def abort(self) -> None:
        """End the program by SIGTERM, after GRACE seconds by SIGKILL, and close the connection only then.

        A socket pair has no reset: a program that still ran would take the close for the end of what it reads.
        """
        try:
            with trio.CancelScope(shield=True):
                await _end(self.process)
        finally:
            await trio.aclose_forcefully(self.connection)


async def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    pair: tuple[socket.socket, socket.socket] | None = None,
    must_succeed: bool = False,
) -> ProcessStream:
    """Start a program, without a shell, whose standard input and output are the returned stream.

    `pass_fds` are further descriptors that it inherits. `pair` are the connection's ends, ours and the program's, both
    of which are taken over; without them it is a new Unix socket pair.
    `stderr` is a file descriptor, subprocess.DEVNULL, or None for our own. `must_succeed`:
    its end of file counts only if it ended well (`confirm_end`).
    Raises TransportError when it can't be started.
    """
    try:
        ours, theirs = pair or socket.socketpair()
    except OSError as error:  # this process has no file descriptor left, for example
        raise _cannot_start(argv, error) from error
    with theirs:
        try:
            process = await trio.lowlevel.open_process(
                list(argv),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=stderr,
                env=environment,
                cwd=directory,
                pass_fds=tuple(pass_fds),
                process_group=0,  # so that its own children can be ended with it
            )
        except OSError as error:
            ours.close()
            raise _cannot_start(argv, error) from error
        except BaseException:
            ours.close()
            raise
    connection = SocketStream(trio.socket.from_stdlib_socket(ours))
    return ProcessStream(process, connection, argv[0], must_succeed=must_succeed)


def _cannot_start(argv: Sequence[str], error: OSError) -> TransportError:
    return TransportError(f"the program {argv[0]} can't be started: {error.strerror}")


async def _end(process: trio.Process) -> None:
    if process.returncode is None:
        _signal_group(process, signal.SIGTERM)
        with trio.move_on_after(GRACE):
            await process.wait()
    # What the program started and left behind; rsync's receiver, for one, outlives its parent when that is ended.
    _signal_group(process, signal.SIGKILL)
    await process.wait()


def _signal_group(process: trio.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
