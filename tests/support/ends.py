"""Two ends with certificates of their own, and real tunnels between them that live as long as a test."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import randrange
from typing import IO

from lab.certificates import self_signed
from pytunnel.tls.settings import TlsSettings
from tests.support.credentials import settings_of
from tests.support.tunnels import Program, tunnel

NODE1, NODE2 = "node1.my.cluster", "node2.my.cluster"
EXPECT_NODE2 = ("--peer-name", NODE2)


@dataclass(frozen=True, slots=True)
class Ends:
    """The credentials of node1, which connects, and of node2, which listens; `cleanup` ends the tunnels."""

    node1: TlsSettings
    node2: TlsSettings
    cleanup: ExitStack

    @classmethod
    def make(cls, folder: Path, cleanup: ExitStack) -> Ends:
        """Two self-signed certificates that trust each other, in files of `folder`."""
        one, two = self_signed(NODE1), self_signed(NODE2)
        return cls(
            settings_of(folder / "node1", one, [one, two]), settings_of(folder / "node2", two, [one, two]), cleanup
        )

    def listen(
        self, target: str, *options: str, source: str = "127.0.0.1:0", stdout: int | IO[bytes] = subprocess.DEVNULL
    ) -> Program:
        """A running `pytunnel listen` of node2."""
        return self.cleanup.enter_context(tunnel("listen", self.node2, source, target, *options, stdout=stdout))

    def connect(
        self,
        target: str,
        *options: str,
        source: str = "127.0.0.1:0",
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
    ) -> Program:
        """A running `pytunnel connect` of node1, which expects node2."""
        words = (*EXPECT_NODE2, *options)
        return self.cleanup.enter_context(
            tunnel("connect", self.node1, source, target, *words, stdin=stdin, stdout=stdout)
        )

    def pair(self, target: str, *options: str, connect_options: tuple[str, ...] = ()) -> tuple[Program, Program]:
        """A `listen` with these options that leads to `target`, and a `connect` that leads to it; both accept."""
        # An address that nothing else has: its port needn't be asked for, so both start at the same time.
        place = f"127.{randrange(1, 255)}.{randrange(1, 255)}.{randrange(1, 255)}:4444"  # noqa: S311 - no secret
        listening = self.listen(target, *options, source=place)
        connecting = self.connect(place, *connect_options)
        for program in (listening, connecting):
            program.wait_for("accepting ")
        return listening, connecting

    def between(self, target: str) -> int:
        """The port of a `connect` that leads to a `listen` that leads to `target`."""
        return self.pair(target)[1].port
