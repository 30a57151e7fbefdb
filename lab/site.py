"""What all nodes of one run share: a directory, the servers' user, a fresh datadir to copy, the SST method."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import LabError, programs
from lab.account import Account, server_account
from lab.install import install
from lab.programs import Programs

METHOD = "rsync_tunnel"
# A Unix socket's path may be 107 bytes long; a node's socket is a few words below the run's directory.
_LONGEST_DIRECTORY = 60
_INSTALL_LIMIT = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """One run of the lab.

    `template` is a datadir as mariadb-install-db makes it, with two undo tablespaces. `path` is the servers' PATH.
    """

    directory: Path
    account: Account
    programs: Programs
    template: Path
    method: str
    path: str


@contextmanager
def open_site(method: str = METHOD) -> Iterator[Site]:
    """A site in a temporary directory, removed at the end.

    Raises LabError when programs are missing or the template can't be made.
    """
    found = programs.find()
    account = server_account()
    with tempfile.TemporaryDirectory(prefix="pyt-") as name:
        directory = Path(name)
        if len(name) > _LONGEST_DIRECTORY:
            raise LabError(f"{name} is too long for the Unix sockets below it; set TMPDIR to a shorter directory")
        directory.chmod(0o755)  # the servers' user must get in
        yield Site(
            directory=directory,
            account=account,
            programs=found,
            template=_make_template(directory, account, found),
            method=method,
            path=install(directory / "method", account, found),
        )


def _make_template(directory: Path, account: Account, found: Programs) -> Path:
    template = directory / "template"
    words = [
        found.install_db,
        "--no-defaults",
        f"--user={account.name}",
        f"--datadir={template}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--innodb-undo-tablespaces=2",
        "--innodb-log-file-size=8M",
        "--innodb-buffer-pool-size=32M",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_INSTALL_LIMIT, check=False, cwd=directory)
    if done.returncode != 0:
        raise LabError(f"mariadb-install-db ended with {done.returncode}: {done.stdout[-800:]}{done.stderr[-800:]}")
    return template
