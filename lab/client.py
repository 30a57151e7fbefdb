"""Ask a server by the `mariadb` client over its Unix socket."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import LabError

QUERY_LIMIT = 30.0
_SHOWN_OF_STATEMENT = 200


@dataclass(frozen=True, slots=True)
class Client:
    """`program` is the `mariadb` client, `socket` the server's."""

    program: str
    socket: Path

    def rows(self, statement: str, limit: float = QUERY_LIMIT) -> list[list[str]]:
        """What the statements answer with. Raises LabError with the server's error, or after `limit` seconds."""
        words = [self.program, "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch"]
        words += ["--skip-column-names", "--default-character-set=utf8mb4"]
        shown = statement[:_SHOWN_OF_STATEMENT]
        try:
            done = subprocess.run(words, input=statement, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            raise LabError(f"no answer from {self.socket} in {limit:g} seconds to: {shown}") from None
        if done.returncode != 0:
            raise LabError(f"{self.socket} refused `{shown}`: {done.stderr.strip()}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def run(self, statement: str, limit: float = QUERY_LIMIT) -> None:
        """Run statements for their effect; raises as `rows` does."""
        self.rows(statement, limit)

    def value(self, statement: str) -> str:
        """The only value that a statement answers with; raises as `rows` does."""
        ((value,),) = self.rows(statement)
        return value

    def status(self, name: str) -> str:
        """A status variable. Raises LabError when the server doesn't answer or has no such variable."""
        rows = self.rows(f"SHOW GLOBAL STATUS LIKE '{name}'")
        if not rows:
            raise LabError(f"the server at {self.socket} has no status variable {name}")
        return rows[0][1]
