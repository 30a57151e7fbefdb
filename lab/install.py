"""Make the SST program runnable by the server's user.

The server finds `wsrep_sst_METHOD` on its PATH, before which it puts the directory of the system's programs, and runs
it as its own user. A checkout whose program runs like that is used where it is: that user can read it, and the Python
of its .venv. Otherwise (a checkout or a Python below a home directory of mode 0700, as root's; an environment that
isn't the checkout's .venv) the executables, `src` and the environment we run in are copied into the lab's directory,
laid out like a checkout, for every user to read; where only the environment's base Python is out of reach, the copy is
pointed at another Python of the same version.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from lab import LabError
from lab.account import Account
from lab.programs import Programs

CHECKOUT = Path(__file__).resolve().parent.parent
_PROGRAM = "wsrep_sst_rsync_tunnel"
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PROBE_LIMIT = 30.0
# Only what tests are written with, and large.
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "mypy*", "*__mypyc*", "ruff*", "pip", "pip-*", "hypothesis*")


def install(directory: Path, account: Account, programs: Programs) -> str:
    """The PATH for servers of `account` that finds this checkout's SST programs.

    Copies into `directory` if it must. Raises LabError when no Python is found that `account` can run.
    """
    checkout = CHECKOUT if _usable(account, CHECKOUT) else _copy(directory, account)
    return os.pathsep.join((str(checkout), programs.path))


def _usable(account: Account, checkout: Path) -> bool:
    return _runs(account, str(checkout / _PROGRAM), "--version")


def _copy(directory: Path, account: Account) -> Path:
    if sys.prefix == sys.base_prefix:
        raise LabError(
            f"the user {account.name} can't run {CHECKOUT / _PROGRAM}; make a virtual environment: make test"
        )
    environment = Path(sys.prefix)
    directory.mkdir()
    for program in CHECKOUT.glob("wsrep_sst_*"):
        shutil.copy2(program, directory)
    shutil.copytree(CHECKOUT / "src", directory / "src", ignore=_NOT_COPIED)
    copied = directory / ".venv"
    shutil.copytree(environment, copied, symlinks=True, ignore=_NOT_COPIED)
    _open(directory)
    if not _usable(account, directory):
        _point_at(copied, _runnable_python(account))
    if not _usable(account, directory):
        raise LabError(f"the user {account.name} can't run a copy of {environment}; make it with /usr/bin/python3")
    return directory


def _open(directory: Path) -> None:
    """Let every user read it: a checkout made under umask 077 is its owner's alone."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(stat.S_IMODE(mode) | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))


def _point_at(environment: Path, python: Path) -> None:
    for link in ("python", "python3", _PYTHON):
        (environment / "bin" / link).unlink(missing_ok=True)
        (environment / "bin" / link).symlink_to(python)
    (environment / "pyvenv.cfg").write_text(
        f"home = {python.parent}\ninclude-system-site-packages = false\n",
    )


def _runnable_python(account: Account) -> Path:
    for folder in ("/usr/bin", "/usr/local/bin"):
        python = Path(folder, _PYTHON)
        if python.exists() and _runs(account, str(python), "-c", ""):
            return python
    raise LabError(
        f"the user {account.name} can run neither {sys.executable} nor a {_PYTHON} of the system; "
        f"make the virtual environment with a Python that every user can run"
    )


def _runs(account: Account, *words: str) -> bool:
    try:
        done = subprocess.run(
            words,
            user=account.uid if os.geteuid() == 0 else None,
            group=account.gid if os.geteuid() == 0 else None,
            extra_groups=[] if os.geteuid() == 0 else None,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=_PROBE_LIMIT,
            check=False,
        )
    except PermissionError:
        return False
    return done.returncode == 0
