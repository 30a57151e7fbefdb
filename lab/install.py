"""Make the SST program runnable by the server's user.

The server finds `wsrep_sst_METHOD` on its PATH and runs it as its own user. A checkout that this user can read, with a
virtual environment whose Python it can run, is used where it is. Otherwise (a checkout or a Python below a home
directory of mode 0700, as root's) the executables, `src` and the virtual environment are copied into the lab's
directory, laid out like the checkout; where only the environment's base Python is out of reach, the copy is
pointed at another Python of the same version.
"""

from __future__ import annotations

import os
import shutil
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
    """The PATH for servers of `account` that finds this checkout's SST programs first.

    Copies into `directory` if it must. Raises LabError when no Python is found that `account` can run.
    """
    environment = Path(sys.prefix)
    if not _usable(account, CHECKOUT, environment):
        environment = _copy(directory, account, environment)
        checkout = directory
    else:
        checkout = CHECKOUT
    return os.pathsep.join((str(checkout), str(environment / "bin"), programs.path))


def _usable(account: Account, checkout: Path, environment: Path) -> bool:
    python = environment / "bin" / "python3"
    return _runs(account, str(python), "-c", "import trio, OpenSSL") and _runs(
        account, str(python), str(checkout / _PROGRAM), "--version"
    )


def _copy(directory: Path, account: Account, environment: Path) -> Path:
    directory.mkdir()
    for program in CHECKOUT.glob("wsrep_sst_*"):
        shutil.copy2(program, directory)
    shutil.copytree(CHECKOUT / "src", directory / "src", ignore=_NOT_COPIED)
    copied = directory / ".venv"
    shutil.copytree(environment, copied, symlinks=True, ignore=_NOT_COPIED)
    if not _usable(account, directory, copied):
        _point_at(copied, _runnable_python(account))
    if not _usable(account, directory, copied):
        raise LabError(f"the user {account.name} can't run a copy of {environment}; make it with /usr/bin/python3")
    return copied


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
