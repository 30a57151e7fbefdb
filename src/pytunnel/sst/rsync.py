"""How rsync is called, on both sides: its daemon's configuration, its arguments, what its exit codes mean.

Text and values only; the roles start the programs.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.manifest import FOREIGN_DIRECTORIES, FileSet
from pytunnel.status.address import STATUS_SOCKET

PLAN_SUFFIX = "-plan"
USER = "pytunnel"

_BLANK = re.compile(r"\s")
_HANDOVER = Path(__file__).with_name("handover.py")
# Nothing that a transfer needs, but what could lead a donor's bytes out of the served directory.
_REFUSED = (
    *("D", "copy-links", "copy-unsafe-links", "copy-dirlinks", "keep-dirlinks", "devices", "specials", "write-devices"),
    *("copy-devices", "backup-dir", "super", "fake-super", "temp-dir", "partial-dir", "log-file"),
)
IDLE_LIMIT = 60
"""Seconds without a byte, then rsync gives up, on both sides. What counts is that it says every half of this time that
it is there: by itself it does not notice a connection that takes these few bytes and carries them nowhere."""

_SAID = {
    2: "the two rsync versions can't talk to each other; install the same one on both nodes",
    3: "a directory that should be transferred is not there",
    4: "the joiner's rsync has no such compression; change compress in [sst], or install the same rsync on both nodes",
    5: "the joiner's rsync refused, or did not start; the joiner's log may say why",
    10: "the connection failed",
    11: "a file could not be written or read: is the disk full, or a permission missing?",
    12: "the rsync protocol broke: the connection was cut, or the other node's rsync is of another kind",
    13: "rsync could not report its own state",
    14: "rsync's processes lost each other",
    19: "rsync was stopped",
    20: "rsync was killed",
    23: "some files could not be transferred",
    30: "no byte came for too long",
    35: "the other node did not answer in time",
}
_NOT_LET_IN = "the joiner's rsync did not let us in: does this donor know the secret of the transfer?"
_IN_THE_WAY = (
    "the joiner has a file or a link where a directory of the donor's should go; remove it, or move it out of the "
    "joiner's datadir, and start the joiner again"
)
_ABOUT_FILES = (3, 11, 23)
_PASSING = (10, 12, 14, 19, 20, 30, 35)  # by a signal, or because the other end has gone: the next run may end well
_EXIT_CODES = {2: ExitCode.PROTOCOL, 12: ExitCode.BROKEN_OFF, 10: ExitCode.BROKEN_OFF, 30: ExitCode.BROKEN_OFF}


@dataclass(frozen=True, slots=True)
class Secret:
    """What the donor must know to be let in: valid for one transfer, never shown."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Saving:
    """How fewer bytes are sent, for processor time on both nodes.

    `compress` is rsync's name of a compression. `delta`: what the joiner's old files have of the donor's isn't sent;
    both sides read theirs for that, so it is of use only where the network is much slower than the disks.
    """

    compress: str | None = None
    delta: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of a donor's rsync."""
        compress = () if self.compress is None else ("--compress", f"--compress-choice={self.compress}")
        return ("--no-whole-file" if self.delta else "--whole-file", *compress)


@dataclass(frozen=True, slots=True)
class Module:
    """One directory that the joiner's rsync serves.

    `admitted` are the patterns of what a donor may write and delete there, `excluded` exceptions from them; nothing
    else can be touched, whatever the donor's rsync asks for.
    """

    name: str
    path: Path
    admitted: tuple[str, ...]
    excluded: tuple[str, ...] = ()


def daemon_config(modules: Iterable[Module], secrets_file: Path | None, log_file: str = "/dev/null") -> str:
    """The text of rsyncd.conf for the joiner.

    `secrets_file` None admits everybody (an old donor knows no secret). Raises SstError for a path that
    rsyncd.conf can't express.
    """
    lines = [
        "use chroot = no",
        "read only = no",
        "write only = yes",
        f"timeout = {IDLE_LIMIT}",
        # with `use chroot = no` the default would rewrite every symlink, and the donor's are to be kept
        "munge symlinks = no",
        "reverse lookup = no",  # there is no address at the other end of a socket pair
        "incoming chmod = Fug-s",  # a donor's setuid program would be one of our user
        f"log file = {log_file}",
        f"refuse options = {' '.join(_REFUSED)}",
    ]
    if os.geteuid() == 0:  # started by root, rsync would serve as nobody, who can't write the datadir
        lines += [f"uid = {os.geteuid()}", f"gid = {os.getegid()}"]
    if secrets_file is not None:
        lines += [f"auth users = {USER}", f"secrets file = {_config_path(secrets_file)}", "strict modes = yes"]
    for module in modules:
        lines += [f"[{module.name}]", f"    path = {_config_path(module.path)}"]
        lines.append(f"    filter = {_filter(module)}")
    return "\n".join(lines) + "\n"


def data_module(name: str, datadir: Path, apart: Iterable[Path], files: Iterable[str] | None) -> Module:
    """The module of the datadir: its schemas, but for the places `apart`, and `files` of its top level.

    `files` None admits every name there: an old donor sends each schema to a destination of its own, `MODULE/SCHEMA`,
    which rsync judges before it knows that it is a directory.
    """
    admitted = ("/*",) if files is None else ("/*/", *(f"/{name}" for name in files))
    return Module(name, datadir, admitted, tuple(protected(datadir, apart)))


def set_module(name: str, directory: Path, files: FileSet) -> Module:
    """The module of one set's directory: the set's files, never a directory."""
    return Module(name, directory, tuple(f"/{pattern}" for pattern in files.patterns), ("/*/",))


def daemon_command(config: Path) -> list[str]:
    """The joiner's rsync for one connection, its standard input, as inetd would start it.

    Not `--server --daemon`, which is for a remote shell: it counts on its exit status being carried to the donor, where
    nobody carries it here, and a file that could not be written would go unnoticed.
    """
    return ["rsync", "--daemon", f"--config={config}"]


def client_command(control: int, *arguments: str) -> list[str]:
    """The donor's rsync; it hands its connection over through descriptor `control`."""
    shell = f"{shlex.quote(sys.executable)} -I -S {shlex.quote(str(_HANDOVER))} {control}"
    return ["rsync", f"--rsh={shell}", f"--timeout={IDLE_LIMIT}", *arguments]


def client_environment(environment: Mapping[str, str], secret: Secret | None) -> dict[str, str]:
    """rsync's environment: nothing of ours may change its meaning, the secret is in no argument."""
    clean = {name: value for name, value in environment.items() if not name.startswith("RSYNC_")}
    clean["RSYNC_PASSWORD"] = secret.password if secret is not None else ""  # without it, rsync would ask for one
    return clean


def destination(module: str, secret: Secret | None, path: str = "") -> str:
    """The joiner's module as rsync's last argument; the host's name is decoration, pytunnel dials."""
    user = f"{secret.user}@" if secret is not None else ""
    return f"{user}joiner::{module}/{path}"


_KEEP = ("--links", "--perms", "--owner", "--group")
# In place: a datadir has no room for second copies. Never trust time stamps: InnoDB files may differ with the same
# size and time.
_WRITE = ("--inplace", "--ignore-times")


def delete_arguments(datadir: Path, left_out: Iterable[Path], target: str, *, guarded: bool) -> list[str]:
    """Delete in the joiner's datadir what this one hasn't; transfers nothing.

    A `guarded` joiner protects by itself what is no schema there; of another nothing is deleted at the places that
    are `left_out` here, for it may have its own sets there.
    """
    hidden = "--filter=H " if guarded else "--exclude="
    return [
        "--recursive",
        *_KEEP,
        "--delete",
        "--existing",
        "--ignore-existing",
        *(f"--exclude={pattern}" for pattern in protected(datadir, ())),
        *(f"{hidden}{pattern}" for pattern in _patterns(datadir, left_out)),
        "--include=/*/",
        "--exclude=/*",
        "--",
        f"{datadir}/",
        target,
    ]


def delete_schema_arguments(schema: str, nothing: Path, target: str) -> list[str]:
    """Delete one schema of the joiner; `nothing` is an empty directory."""
    return ["--recursive", "--delete", f"--include=/{schema}/***", "--exclude=*", "--", f"{nothing}/", target]


def delete_set_arguments(files: FileSet, nothing: Path, target: str) -> list[str]:
    """Delete the joiner's files of one set; `nothing` is an empty directory."""
    return ["--dirs", "--delete", *_only(files), "--", f"{nothing}/", target]


def schema_arguments(datadir: Path, target: str, saving: Saving) -> list[str]:
    """Transfer the files whose list is given on standard input."""
    how = ("--from0", "--files-from=-", "--ignore-missing-args")
    return [*how, *_KEEP, *_WRITE, *saving.arguments, "--", f"{datadir}/", target]


def set_arguments(directory: Path, files: FileSet, target: str, saving: Saving) -> list[str]:
    """Transfer one set's files, and delete those of them that only the joiner has; directories never match."""
    return ["--dirs", *_KEEP, *_WRITE, *saving.arguments, "--delete", *_only(files), "--", f"{directory}/", target]


def access_arguments(file: Path, target: str) -> list[str]:
    """Go through the motions of sending a file, to find out whether we are let in."""
    return ["--dry-run", "--", str(file), target]


def note_arguments(file: Path, target: str) -> list[str]:
    """Transfer one small file, which is there under its name when it is complete, and not before."""
    return ["--perms", "--whole-file", "--ignore-times", "--", str(file), target]


def file_arguments(file: Path, target: str, saving: Saving) -> list[str]:
    """Transfer one file."""
    return ["--perms", *_WRITE, *saving.arguments, "--", str(file), target]


def resumed(arguments: Iterable[str]) -> list[str]:
    """The arguments of the same run once more: what has arrived is compared block by block, and not sent again."""
    return ["--no-whole-file" if argument == "--whole-file" else argument for argument in arguments]


def protected(datadir: Path, places: Iterable[Path]) -> list[str]:
    """Patterns of what is neither sent nor deleted: what is the file system's or ours, and `places` below it."""
    return [*(f"/{name}/" for name in FOREIGN_DIRECTORIES), f"/{STATUS_SOCKET}", *_patterns(datadir, places)]


VANISHED = 24
"""The exit code for files that were deleted meanwhile: temporary ones, because the server's tables are locked."""


def parse_compressions(version: str) -> frozenset[str]:
    """The compressions that an rsync knows, from what `rsync --version` prints; before 3.2 it doesn't say."""
    match = re.search(r"^Compress list:\s+(.*)$", version, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def parse_module_list(listing: str) -> frozenset[str]:
    """The names of an rsync daemon's modules from what it lists: a name and a comment a line."""
    return frozenset(line.split("\t")[0].strip() for line in listing.splitlines() if "\t" in line)


def blames_files(code: int, said: Iterable[str]) -> bool:
    """Whether rsync failed by a file (disk full, permission), and not because its connection ended."""
    return code in _ABOUT_FILES or any(word in line for line in said for word in ("write failed", "failed:"))


def may_pass(code: int) -> bool:
    """Whether rsync failed by something that another run may not meet; a signal that killed it has a negative code."""
    return code < 0 or code in _PASSING


def failure(code: int, last_words: str) -> SstError:
    """The error for an exit code of rsync, with the last thing that rsync itself said."""
    sentence = "rsync was killed" if code < 0 else _SAID.get(code, "rsync failed")
    if code == 5 and "auth failed" in last_words:
        sentence = _NOT_LET_IN
    elif code == 23 and re.search(r"Not a directory \(|Too many levels of symbolic links \(", last_words):
        sentence = _IN_THE_WAY
    detail = f" ({last_words})" if last_words else ""
    exit_code = _EXIT_CODES.get(code, ExitCode.OTHER)
    return SstError(f"rsync ended with code {code}: {sentence}{detail}", exit_code=exit_code)


def _patterns(datadir: Path, places: Iterable[Path]) -> list[str]:
    """Patterns of the places below the datadir.

    With a slash at its end, a pattern of rsync's daemon also covers what lies below; without, it covers files too.
    """
    inside = [_literal(str(path.relative_to(datadir))) for path in places if datadir in path.parents]
    return [f"/{path}{end}" for path in inside for end in ("", "/")]


def _only(files: FileSet) -> list[str]:
    """Arguments that leave nothing but a set's files; a directory of such a name is none of them."""
    return ["--exclude=/*/", *(f"--include=/{pattern}" for pattern in files.patterns), "--exclude=*"]


def _filter(module: Module) -> str:
    """The module's filter rules; they are parted by blanks, so a blank in a name becomes "any character"."""
    rules = [("-", module.excluded), ("+", module.admitted), ("-", ("/*",))]
    return " ".join(f"{sign} {re.sub(_BLANK, '?', pattern)}" for sign, patterns in rules for pattern in patterns)


def _literal(text: str) -> str:
    """The text as a pattern of rsync that matches nothing else; without a wildcard rsync knows no escapes."""
    if not any(wildcard in text for wildcard in "*?["):
        return text
    return re.sub(r"([*?\[\\])", r"\\\1", text)


def _config_path(path: Path) -> str:
    """A path as rsyncd.conf can hold it: it has no quoting, expands %NAME% and joins lines at a backslash."""
    text = str(path)
    if not text.isprintable() or "%" in text or text.endswith("\\") or text != text.strip():
        raise SstError(
            f"the directory {text!r} can't be served by rsync: its name holds a percent sign, a line break or "
            "a blank at its end; move it",
            exit_code=ExitCode.BAD_SETTING,
        )
    return text
