"""The programs that the server runs for a state transfer: are they where it looks, and will they run as its user?

The server's user decides where it looks, and so what is found. It is read and run as that user, never as root.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytunnel.certs.access import Reader, may, ourselves, run_as
from pytunnel.doctor.findings import Finding, fault, ok, warning
from pytunnel.sst.method import METHODS

RSYNC, METHOD, OPTION_READER = "rsync", "SST method", "my_print_defaults"

_OLDEST_RSYNC = (3, 1)
_LIMIT = 30.0  # seconds; a Python that starts from a cold disk takes a few
_OURS = "pytunnel"
_OURS_WITHIN = 4096  # bytes
_PREFIX = "wsrep_sst_"


@dataclass(frozen=True, slots=True)
class SearchPath:
    """Where the server finds programs. `known` is False where it is assumed, because no server runs."""

    path: str
    known: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said and how it ended."""

    status: int
    output: str
    errors: str = ""

    @property
    def last_words(self) -> str:
        """The last line of its standard error."""
        lines = self.errors.strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def find_runner(account: Reader | None) -> Reader | None:
    """Who may run the server's programs: its user, or where that is not known ourselves, unless we are root."""
    return ourselves() if account is None and os.geteuid() != 0 else account


def examine_rsync(search: SearchPath, account: Reader | None) -> Finding:
    """Is rsync there, and which one?"""
    program = shutil.which("rsync", path=search.path)
    if program is None:
        return fault(RSYNC, f"not on the server's PATH ({search.path})", "install the package rsync")
    runner = find_runner(account)
    if runner is None:
        return _not_run(RSYNC, program)
    return check_rsync(program, parse_rsync_version(_ask([program, "--version"], runner, search).output))


def check_rsync(program: str, version: tuple[int, int, int] | None) -> Finding:
    """Is it a version that can do what is asked of it?"""
    if version is None:
        text = f"{program} does not say its version as rsync does"
        return warning(RSYNC, text, "install the package rsync, the same version on all nodes")
    told = ".".join(map(str, version))
    if version < _OLDEST_RSYNC:
        text = f"{program} is version {told}; pytunnel is tested with 3.1 and later"
        return warning(RSYNC, text, "install a newer rsync, the same version on all nodes")
    return ok(RSYNC, f"{program}, version {told}")


def examine_option_reader(search: SearchPath) -> Finding:
    """Is the program there that reads the option files?"""
    program = shutil.which(OPTION_READER, path=search.path)
    if program is None:
        text = f"not on the server's PATH ({search.path}), so the SST method can't read the option files"
        return fault(OPTION_READER, text, "install the package of the server's client programs")
    return ok(OPTION_READER, program)


def parse_rsync_version(text: str) -> tuple[int, int, int] | None:
    """The version in what `rsync --version` prints."""
    match = re.search(r"\brsync +version v?(\d+)\.(\d+)\.(\d+)", text, re.ASCII)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def examine_method(method: str, search: SearchPath, account: Reader | None) -> Finding:
    """Will the server find and run `wsrep_sst_METHOD`? One of ours is run as the server's user with --version."""
    name = _PREFIX + method
    program = shutil.which(name, path=search.path)
    if program is None:
        return check_absence(name, search, _lying_about(name, search.path), shutil.which(name))
    if account is not None and not may(account, "-x", Path(program)):
        return fault(
            METHOD,
            f"the user {account.name} can't run {program}, because of its mode, its directories' or those of what it "
            f"links to ({os.path.realpath(program)})",
            f"install it where the user {account.name} can read it, in /opt for example",
        )
    if not Path(program).is_file():
        return fault(METHOD, f"{program} is no regular file", "put the program there, or take it off the server's PATH")
    if method not in METHODS:
        return ok(METHOD, program)
    runner = find_runner(account)
    if runner is None:
        return _not_run(METHOD, program)
    beginning = _beginning_of(program, runner)
    if beginning.status != 0:
        return fault(
            METHOD,
            f"{program} can't be read by the user {runner.name}: {beginning.last_words}",
            f"install it where the user {runner.name} can read it, with mode 0755",
        )
    if _OURS not in beginning.output:
        return warning(
            METHOD,
            f"{program} is another program, probably the socat script",
            "replace it by a link to pytunnel's (README, Move over from the socat script)",
        )
    return check_answer(program, _ask([program, "--version"], runner, search))


def check_absence(name: str, search: SearchPath, lying: str | None, elsewhere: str | None) -> Finding:
    """The method is not where the server looks; `lying` is a file of that name that can't be run, `elsewhere` the
    program that our own PATH leads to."""
    if lying is not None:
        return fault(METHOD, f"{lying} is not executable", f"run: chmod a+x {shlex.quote(os.path.realpath(lying))}")
    if elsewhere is None:
        link = f"link it: ln -s /opt/pytunnel/{name} /usr/bin/ (README, Set up a cluster)"
        ours = name.removeprefix(_PREFIX) in METHODS
        advice = link if ours else "install the package that brings it, or correct wsrep_sst_method"
        return fault(METHOD, f"{name} is not on the server's PATH ({search.path})", advice)
    advice = f"link it: ln -s {elsewhere} /usr/bin/"
    if search.known:
        return fault(METHOD, f"{elsewhere} is on your PATH, but not on the server's ({search.path})", advice)
    return warning(METHOD, f"{elsewhere} is on your PATH, but not on that of a service ({search.path})", advice)


def check_answer(program: str, answer: Answer) -> Finding:
    """Did the method run?"""
    if answer.status != 0:
        return fault(
            METHOD,
            f"{program} does not run: {answer.last_words}",
            "install pytunnel where the server's user can read it, with a Python that it can run",
        )
    return ok(METHOD, f"{program} runs ({answer.output.strip()})")


def _not_run(check: str, program: str) -> Finding:
    text = f"{program} was not run: who the server's user is is not known, and root runs no program of another user's"
    return warning(check, text, "name the server's user by --user")


def _beginning_of(program: str, runner: Reader) -> Answer:
    """Its first bytes, read as that user: nothing is opened that this user could not open, nor waited for."""
    return _answer(["head", "-c", str(_OURS_WITHIN), "--", program], runner, None)


def _lying_about(name: str, path: str) -> str | None:
    candidates = (Path(directory, name) for directory in path.split(os.pathsep))
    return next((str(candidate) for candidate in candidates if candidate.is_file()), None)


def _ask(command: list[str], runner: Reader, search: SearchPath) -> Answer:
    return _answer(command, runner, {"PATH": search.path, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"})


def _answer(command: list[str], runner: Reader, environment: Mapping[str, str] | None) -> Answer:
    try:
        done = run_as(runner, command, limit=_LIMIT, environment=environment)
    except OSError as error:
        return Answer(1, "", error.strerror or "")
    except subprocess.TimeoutExpired:
        return Answer(1, "", f"it did not end within {_LIMIT:g} s")
    return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
