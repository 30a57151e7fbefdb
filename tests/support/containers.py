"""A process as a container engine would start it, where there is no engine: PID 1 of namespaces of its own, any user,
no capabilities, no new privileges, and every file system read-only.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.account import Account
from lab.hosts import Host
from lab.install import install
from lab.programs import find
from lab.waiting import until
from tests.support.tunnels import LIMIT, Program, started

USER = 65532

# Each mount by itself: what can't be changed (proc, sys) belongs to root, and we are not root any more afterwards.
_READ_ONLY = r"""
awk '{ print $5 }' /proc/self/mountinfo | sort -u | while read -r place; do
    mount -o remount,bind,ro "$place" 2>/dev/null || true
done
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What the container's user can read: this checkout with a Python that runs it, and a folder for a test's files."""

    checkout: Path
    folder: Path

    @property
    def python(self) -> str:
        """The interpreter that has pytunnel and its libraries."""
        return str(self.checkout / ".venv" / "bin" / "python")

    def give(self, path: Path) -> None:
        """Let the container's user own a file or directory."""
        Account("container", USER, USER).own(path)


@contextmanager
def built() -> Iterator[Image]:
    """An image in a temporary directory."""
    folder = Path(tempfile.mkdtemp(prefix="pyt-image-"))
    try:
        folder.chmod(0o755)
        path = install(folder / "checkout", Account("container", USER, USER), find())
        (folder / "files").mkdir()
        yield Image(Path(path.partition(os.pathsep)[0]), folder / "files")
    finally:
        shutil.rmtree(folder)


@contextmanager
def running(
    image: Image, host: Host, words: Sequence[str], environment: Mapping[str, str], *, group: int = USER
) -> Iterator[tuple[Program, int]]:
    """Run `pytunnel WORDS` as a container on the host; the program, and the process id of its PID 1 outside of it."""
    drop = ["setpriv", f"--reuid={USER}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    drop += ["--bounding-set=-all", "--inh-caps=-all"]
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    own = {"PYTHONPATH": str(image.checkout / "src"), **environment}
    command = ["env", "-i", *(f"{name}={value}" for name, value in own.items()), image.python, "-m", "pytunnel", *words]
    with started(host.command(*apart, "sh", "-c", _READ_ONLY, "sh", *drop, *command)) as program:
        children = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
        until(lambda: bool(children.read_text().split()), LIMIT, "the container's PID 1", interval=0.05)
        yield program, int(children.read_text().split()[0])
