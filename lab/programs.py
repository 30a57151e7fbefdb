"""Where this machine keeps the programs of a database server, and which of them are missing."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab import LabError

NEEDED = ("mariadbd", "mariadb-install-db", "mariadb", "my_print_defaults", "rsync")
INSTALL_HINT = (
    "on Debian: apt-get install mariadb-server galera-4 rsync; "
    "on RHEL: dnf install mariadb-server mariadb-server-galera galera rsync"
)
# RHEL keeps the server itself in libexec, Debian in sbin, which isn't on every user's PATH.
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SEARCH_PATH = f"{_SYSTEM_PATH}:/usr/libexec"
_PROVIDER_FOLDERS = ("/usr/lib/galera", "/usr/lib64/galera-4", "/usr/lib64/galera", "/usr/lib/galera-4")


@dataclass(frozen=True, slots=True)
class Programs:
    """Absolute paths; `path` is the PATH that a server started by its service would have."""

    server: str
    install_db: str
    client: str
    provider: Path
    path: str = _SYSTEM_PATH


def missing() -> list[str]:
    """What of MariaDB, Galera and rsync isn't installed here: names, empty when all is there."""
    absent = [name for name in NEEDED if not installed(name)]
    if _provider() is None:
        absent.append("libgalera_smm.so")
    return absent


def find() -> Programs:
    """The programs' places. Raises LabError that names what is missing and how to install it."""
    absent = missing()
    provider = _provider()
    if absent or provider is None:
        raise LabError(f"not installed here: {', '.join(absent)}; {INSTALL_HINT}")
    return Programs(
        server=located("mariadbd"),
        install_db=located("mariadb-install-db"),
        client=located("mariadb"),
        provider=provider,
    )


def installed(name: str) -> bool:
    """Whether the program `name` is on this machine."""
    return _found(name) is not None


def located(name: str) -> str:
    """The absolute path of the program `name`. Raises LabError when it isn't installed."""
    path = _found(name)
    if path is None:
        raise LabError(f"the program {name} isn't installed here")
    return path


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((_SEARCH_PATH, os.environ.get("PATH", ""))))


def _provider() -> Path | None:
    places = (Path(folder, "libgalera_smm.so") for folder in _PROVIDER_FOLDERS)
    return next((place for place in places if place.exists()), None)
