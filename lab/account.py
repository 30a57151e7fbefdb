"""The user that servers run as: mysql when we are root, as in production; otherwise ourselves."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from lab import LabError


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    def own(self, *paths: Path) -> None:
        """Make this user the owner of each path, and of everything below it where it is a directory."""
        if self.uid == os.geteuid():
            return
        for path in paths:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
            if path.is_dir() and not path.is_symlink():
                self.own(*path.iterdir())


def server_account() -> Account:
    """The user of the lab's servers. Raises LabError when we are root and there is no user mysql."""
    if os.geteuid() != 0:
        return _account(pwd.getpwuid(os.geteuid()))
    try:
        return _account(pwd.getpwnam("mysql"))
    except KeyError:
        raise LabError("there is no user mysql here, which servers run as; install mariadb-server") from None


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
