"""`pytunnel listen` and `pytunnel connect` as a user starts them: processes of their own, seen by their log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pytunnel.tls.settings import TlsSettings

LIMIT = 30.0
"""Seconds for any wait; what is waited for takes far less."""

_ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Program:
    """A running program whose standard error is read line by line."""

    process: subprocess.Popen[bytes]
    lines: list[str] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False
    _reader: threading.Thread | None = None

    def follow(self) -> None:
        """Read standard error until its end, in a thread."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match of `pattern` in any line, once there is one."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._ended, LIMIT)
            match = found()
        if match is None:
            raise AssertionError(f"{pattern!r} is in none of these lines:\n" + "\n".join(self.lines))
        return match

    @property
    def place(self) -> tuple[str, int]:
        """The first address and the port that a tunnel accepts at, once it does."""
        found = self.wait_for(r"accepting .*? at \[?([\w.:]+?)\]?:(\d+),")
        return found[1], int(found[2])

    @property
    def port(self) -> int:
        """The port that a tunnel accepts at, once it does."""
        return self.place[1]

    @property
    def status_port(self) -> int:
        """The port at which a program tells how it is, once it does; it says so in a line of text or of JSON."""
        return int(self.wait_for(r'(?:INFO |"info", "message": ")status at (?:127\.0\.0\.1|0\.0\.0\.0):(\d+)')[1])

    def warnings(self) -> list[str]:
        """The texts of a tunnel's warnings so far."""
        found = (re.search(r"Z WARNING (.*)$", line) for line in self.lines)
        return [match[1] for match in found if match is not None]

    def wait(self) -> int:
        """The exit code, once the program has ended and its last line was read."""
        code = self.process.wait(LIMIT)
        if self._reader is not None:
            self._reader.join(LIMIT)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        self.process.send_signal(number)

    def _read(self) -> None:
        stream = self.process.stderr
        assert stream is not None
        for line in stream:
            with self._news:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def started(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[Program]:
    """Start a program and kill it at the end of the block, if it still runs."""
    own = environment_of_programs(environment)
    process = subprocess.Popen(list(command), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=own)
    program = Program(process)
    program.follow()
    try:
        yield program
    finally:
        if process.poll() is None:
            process.kill()
        program.wait()


def pytunnel(*arguments: str) -> list[str]:
    """The command line of the program."""
    return [sys.executable, "-m", "pytunnel", *arguments]


@contextmanager
def tunnel(
    command: str,
    settings: TlsSettings,
    source: str,
    target: str,
    *options: str,
    environment: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[Program]:
    """Run `pytunnel COMMAND` during the block; if it hasn't ended before, it must end well at SIGTERM.

    `settings` names the certificate and the CA. Whatever happened, the log holds no traceback.
    """
    words = pytunnel(command, *credentials(settings), *options, source, target)
    with started(words, environment=environment, stdin=stdin, stdout=stdout) as running:
        yield running
        if running.process.poll() is None:
            _end(running)
    assert not [line for line in running.lines if "Traceback" in line], "\n".join(running.lines)


def _end(running: Program) -> None:
    """One SIGTERM ends a tunnel; where a connection is still open, a second one ends that too."""
    running.signal(signal.SIGTERM)
    draining = running.wait_for(r"INFO ended|\"ended\"|draining: open")[0].startswith("draining")
    if draining:
        running.signal(signal.SIGTERM)
    code = running.wait()
    assert code == 0 or (draining and code == -signal.SIGTERM), "\n".join(running.lines)


def credentials(settings: TlsSettings) -> list[str]:
    """The options that name the certificate and the CA of `settings`."""
    return ["--cert", str(settings.certificate), "--ca", str(settings.ca)]


def ran(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; its exit code, and what it said."""
    return subprocess.run(
        list(command),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=environment_of_programs(environment),
        timeout=LIMIT,
    )


def environment_of_programs(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of pytunnel's, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTUNNEL_")}
    return kept | {"PYTHONPATH": str(_ROOT / "src"), "PYTHONUNBUFFERED": "1"} | dict(more or {})
