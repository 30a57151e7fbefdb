"""Files and directories: may the server's user use them, and nobody who shouldn't?

Whether the files are there and fit each other is said by pytunnel.doctor.certificates.
"""

from __future__ import annotations

import grp
import os
import shlex
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytunnel.certs.access import Reader, advise_owner, check_access, may, user_name
from pytunnel.doctor.findings import Finding, fault, from_sentence, ok, warning
from pytunnel.tls.settings import TlsSettings

DIRECTORIES, OPTION_FILES = "directories", "option files"

_STANDARD_OPTION_FILES = (Path("/etc/my.cnf"), Path("/etc/mysql/my.cnf"))


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that options name; a `private` one holds a key."""

    path: Path
    private: bool = False


@dataclass(frozen=True, slots=True)
class NamedDirectory:
    """A directory of the server's, and what it is for."""

    path: Path
    title: str


def files_of(tls: TlsSettings) -> list[NamedFile]:
    """All files and directories of one use of certificates."""
    public = (tls.ca, tls.ca_directory, *tls.revoked, tls.peer_certificate, tls.dh_parameters)
    named = [NamedFile(path) for path in public if path is not None]
    if tls.certificate is not None:
        named.insert(0, NamedFile(tls.certificate, private=tls.key is None))
    if tls.key is not None:
        named.insert(1, NamedFile(tls.key, private=True))
    return named


def examine_files(check: str, files: Sequence[NamedFile], account: Reader | None) -> list[Finding]:
    """Who may read and change the files that are there; `account` None: who the server's user is, is not known."""
    found: list[Finding] = []
    names: list[str] = []
    for file in files:
        if account is not None:
            found += _check_access(check, file.path, account)
        elif hidden_from_us(file.path):
            text = f"{file.path} can't be looked at by {user_name(os.geteuid())}"
            found.append(warning(check, text, "run this with sudo, or as the server's user"))
        if is_there(file.path, unknown=False):
            names.append(str(file.path))
            if is_special(file.path):
                text = f"{file.path} is neither a file nor a directory, and was not opened"
                found.append(fault(check, text, "put the file there that is meant"))
            elif account is not None:
                found += check_mode(check, file, file.path.stat(), account)
    if found or not names:
        return found
    readers = account.name if account is not None else user_name(os.geteuid())
    return [ok(check, f"{', '.join(names)}: readable by {readers}")]


def hidden_from_us(path: Path) -> bool:
    """Whether the file may be there, but not for us."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK)


def is_special(path: Path) -> bool:
    """Whether it is a pipe, a device or a socket: to open one may wait without end, or do something."""
    return is_there(path, unknown=False) and not path.is_file() and not path.is_dir()


def is_there(path: Path, *, unknown: bool) -> bool:
    """Whether the path exists; `unknown` is the answer where a directory above it is closed to us."""
    try:
        return path.exists()
    except PermissionError:
        return unknown


def check_mode(check: str, file: NamedFile, status: os.stat_result, account: Reader) -> list[Finding]:
    """Who else may read the key, or change the file, by its owner and mode. What others may read, the key's own check
    says."""
    found = []
    mode, advice = stat.S_IMODE(status.st_mode), advise_owner(file.path, account.name)
    if file.private and status.st_uid not in (0, account.uid):
        text = f"the key in {file.path} belongs to the user {user_name(status.st_uid)}, who can read it"
        found.append(warning(check, text, advice))
    if file.private and mode & stat.S_IRWXG and status.st_gid not in (0, account.gid, *account.groups):
        text = f"the key in {file.path} is open to the group {_group_name(status.st_gid)} (mode {mode:04o})"
        found.append(warning(check, text, f"run: chmod g-rwx {shlex.quote(str(file.path))}"))
    if not file.private and mode & stat.S_IWOTH:
        text = f"every user of this host can change {file.path} (mode {mode:04o}), and so whom this node trusts"
        found.append(warning(check, text, f"run: chmod o-w {shlex.quote(str(file.path))}"))
    return found


def examine_directories(directories: Iterable[NamedDirectory], account: Reader | None) -> list[Finding]:
    """May the server's user write where the snapshot goes? A missing directory is made by the joiner, if it can."""
    titles: dict[Path, str] = {}
    for directory in directories:
        titles.setdefault(directory.path, directory.title)
    unique = [NamedDirectory(path, title) for path, title in titles.items()]
    found = [finding for directory in unique for finding in _examine_directory(directory, account)]
    names = ", ".join(f"{directory.title} {directory.path}" for directory in unique)
    writer = f"writable by {account.name}" if account is not None else "who may write there was not asked"
    return found or [ok(DIRECTORIES, f"{names}: {writer}")]


def examine_tmpdirs(tmpdirs: Iterable[Path], datadir: Path) -> list[Finding]:
    """Does a directory for temporary files lie in the datadir? A transfer leaves it alone, but the server doesn't."""
    real = Path(os.path.realpath(datadir))
    return [
        warning(
            DIRECTORIES,
            f"tmpdir {tmpdir} lies in the datadir, where the server takes every directory for a schema",
            "set tmpdir in [mysqld] to a directory outside of it",
        )
        for tmpdir in tmpdirs
        if Path(os.path.realpath(tmpdir)).is_relative_to(real)
    ]


def examine_option_files(
    named: Iterable[Path | None], warnings: Iterable[str], account: Reader | None
) -> list[Finding]:
    """Can the server's user read the option files that were named, or the standard ones?

    `warnings` is what my_print_defaults said of files that it left out.
    """
    files = [path for path in named if path is not None] or [
        path for path in _STANDARD_OPTION_FILES if is_there(path, unknown=False)
    ]
    found = [
        warning(OPTION_FILES, f"my_print_defaults says: {text}", "mend the file; the server leaves it out as well")
        for text in warnings
    ]
    if account is not None:
        found += [finding for file in files for finding in _check_access(OPTION_FILES, file, account)]
    return found or [ok(OPTION_FILES, ", ".join(map(str, files)) or "none")]


def _check_access(check: str, path: Path, account: Reader) -> list[Finding]:
    found = [from_sentence(check, told.level, f"{path}: {told.text}") for told in check_access(path, account)]
    default = f"move it to where the user {account.name} can read it"
    return [finding if finding.advice else replace(finding, advice=default) for finding in found]


def _examine_directory(directory: NamedDirectory, account: Reader | None) -> list[Finding]:
    path, title = directory.path, directory.title
    parent = _nearest_existing(path)
    writable = account is None or (may(account, "-w", parent) and may(account, "-x", parent))
    if parent == path and writable:
        return []
    user = account.name if account is not None else "the server's user"
    if parent == path:
        return [fault(DIRECTORIES, f"{user} can't write to {title} {path}", advise_owner(path, user))]
    advice = f"run: install -d -o {user} {shlex.quote(str(path))}"
    if writable:
        text = f"{title} {path} does not exist; a joiner makes it, but no server starts without it"
        return [warning(DIRECTORIES, text, advice)]
    return [fault(DIRECTORIES, f"{title} {path} does not exist, and {user} can't make it", advice)]


def _nearest_existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if is_there(place, unknown=True))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
