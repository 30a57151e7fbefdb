"""What a role of the transfer, and the rsync processes that it starts, may write: the server's directories, no other.

rsync checks by itself that a peer's paths stay inside what it serves. If it ever fails in that, the kernel doesn't.
Reading and starting programs stay free: rsync, its libraries and my_print_defaults lie wherever the system has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytunnel.confinement.landlock import WRITE, Access, Rules
from pytunnel.sst.directories import Layout
from pytunnel.sst.request import Request


def rules_for(request: Request, layout: Layout, private: Path) -> Rules:
    """The rules of one transfer; `private` is its directory for the secret, which it removes at its end.

    Each directory by itself, never one above it: a joiner has made by now what was missing, and a donor makes none.
    """
    paths: dict[Path, Access] = {Path("/dev/null"): Access.WRITE_FILE, private.parent: Access.REMOVE_DIR}
    for path in (private, request.datadir, *_directories(layout)):
        paths[path] = WRITE
    return Rules(handled=WRITE, paths=paths, signals=False)


def _directories(layout: Layout) -> Iterator[Path]:
    yield from (layout.datadir, layout.data, layout.redo, layout.undo, layout.aria)
    if layout.binlog is not None:
        yield from layout.binlog.directories
