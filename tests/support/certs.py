"""`pytunnel certs` as a database administrator runs it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

_LIMIT = 60  # seconds for one run
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}


def certs(folder: Path, *words: str, code: int = 0) -> str:
    """What the program prints in `folder`; it must end with `code`, and show errors in one line at most."""
    done = subprocess.run(
        [sys.executable, "-m", "pytunnel", "certs", *words],
        cwd=folder,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, f"certs {shlex.join(words)} ended with {done.returncode}:\n{output}"
    assert len(done.stderr.splitlines()) <= (code != 0), done.stderr
    return output


def commands_of_the_moment(rotate_output: str) -> list[list[str]]:
    """The commands of `certs` that `certs rotate` tells to run now; what else is to do is left out."""
    step = re.search(r"^\d\. now: .*\n((?: {7}.*\n)*)", rotate_output, re.MULTILINE)
    lines = [line.strip() for line in step[1].splitlines()] if step else []
    return [shlex.split(line)[2:] for line in lines if line.startswith("pytunnel certs ")]
