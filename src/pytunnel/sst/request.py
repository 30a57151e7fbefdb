"""What the server asks for: its command line and environment, read once into one value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from pytunnel.sst.address import Address, parse_address
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.rsync import Secret
from pytunnel.sst.state import parse_position

# rsync takes USER@HOST::MODULE for a local path where USER holds a slash, for an option where it begins with a dash.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


class Role(Enum):
    """Which end of the transfer we are."""

    JOINER = "joiner"
    DONOR = "donor"


@dataclass(frozen=True, slots=True)
class ServerOption:
    """An option of the server: the name with dashes and without `loose-`; value None where it has none."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class ServerPaths:
    """The places of the server's files as one source of them spells them, relative or not; None: it doesn't say.

    `log_bin` is the binlogs' path without the number, `log_basename` what other names are made from, `tmpdir` one
    directory or several, separated by colons.
    """

    data_home: str | None = None
    redo: str | None = None
    undo: str | None = None
    aria: str | None = None
    log_bin: str | None = None
    log_bin_index: str | None = None
    log_basename: str | None = None
    tmpdir: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the script. What is None was not passed, or was passed as `(null)` or empty.

    `gtid` (UUID:SEQNO) and `gtid_domain_id`, which MariaDB alone has, come to the donor alone, and so does `secret`,
    which the joiner put into its ready line; `parent`, the server's process id, comes to the joiner. `auth` is
    wsrep_sst_auth. `paths` are from our own options, `environment_paths` from the environment; `mysqld_args` is the
    server's command line.
    """

    role: Role
    address: Address
    datadir: Path
    defaults_file: Path | None = None
    defaults_extra_file: Path | None = None
    defaults_group_suffix: str | None = None
    parent: int | None = None
    bypass: bool = False
    gtid: str | None = None
    gtid_domain_id: int | None = None
    secret: Secret | None = None
    auth: str | None = field(default=None, repr=False)
    paths: ServerPaths = ServerPaths()
    environment_paths: ServerPaths = ServerPaths()
    mysqld_args: tuple[ServerOption, ...] = ()


# The server takes an abbreviation that can mean only one of its options. These are the shortest ones of MariaDB 10.11
# for what we look up; a server with more options than it takes fewer, and does not start with the others.
_SHORTEST = {
    "innodb-data-home-dir": "innodb-data-h",
    "innodb-log-group-home-dir": "innodb-log-g",
    "innodb-undo-directory": "innodb-undo-d",
    "aria-log-dir-path": "aria-log-d",
    "log-bin-index": "log-bin-i",
    "log-basename": "log-ba",
    "datadir": "data",
    "tmpdir": "tmpd",
    "ssl-capath": "ssl-cap",
    "ssl-cert": "ssl-ce",
    "ssl-key": "ssl-k",
    "ssl-crlpath": "ssl-crlp",
    "bind-address": "bind",
    "wsrep-node-address": "wsrep-node-a",
    "wsrep-data-home-dir": "wsrep-da",
    "wsrep-provider-options": "wsrep-provider-",
}
_LETTERS = {"-h": "datadir", "-t": "tmpdir"}
_PATH_OPTIONS = {
    "innodb-data-home-dir": "data_home",
    "innodb-log-group-home-dir": "redo",
    "innodb-undo-directory": "undo",
    "aria-log-dir-path": "aria",
    "log-bin": "log_bin",
    "binlog": "log_bin",
    "log-bin-index": "log_bin_index",
    "binlog-index": "log_bin_index",
    "log-basename": "log_basename",
}
_OPTIONS = frozenset(
    {
        *_PATH_OPTIONS,
        *("role", "address", "datadir", "parent", "gtid", "gtid-domain-id"),
        *("defaults-file", "defaults-extra-file", "defaults-group-suffix"),
    }
)


def parse_request(arguments: Sequence[str], environment: Mapping[str, str]) -> Request:
    """Understand the server's call; `arguments` are those after the program's name.

    Raises SstError (bad setting) for the first thing that can't be used, never showing a secret.
    """
    ours, bypass, mysqld_words = _split(arguments)
    mysqld_args = tuple(parse_mysqld_args(mysqld_words))
    role = _role(ours.get("role"))
    gtid, domain = _gtid(ours.get("gtid"), ours.get("gtid-domain-id"))
    if bypass and gtid is None:
        raise _bad("--bypass was passed without --gtid, which it needs")
    return Request(
        role=role,
        address=parse_address(ours.get("address") or ""),
        datadir=_datadir(ours.get("datadir"), mysqld_args),
        defaults_file=_path(ours.get("defaults-file")),
        defaults_extra_file=_path(ours.get("defaults-extra-file")),
        defaults_group_suffix=ours.get("defaults-group-suffix"),
        parent=_number("parent", ours.get("parent")),
        bypass=bypass,
        gtid=gtid,
        gtid_domain_id=domain,
        auth=_said(environment.get("WSREP_SST_OPT_AUTH")),
        secret=_secret(_said(environment.get("WSREP_SST_OPT_REMOTE_AUTH"))),
        paths=ServerPaths(**{field: ours[name] for name, field in _PATH_OPTIONS.items() if name in ours}),
        environment_paths=_environment_paths(environment),
        mysqld_args=mysqld_args,
    )


def parse_mysqld_args(words: Sequence[str]) -> Iterator[ServerOption]:
    """The options of a server's command line in order: `--opt=value`, `--opt value`, `--opt`, `-hDIR`, `-h DIR`.

    `-h` is the datadir, `-t` the tmpdir; other options of one letter are left out, and looked for by nobody.
    """
    rest = iter(range(len(words)))
    for position in rest:
        word = words[position]
        following = words[position + 1] if position + 1 < len(words) else "-"
        takes_next = not following.startswith("-")
        if word == "--":
            return
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield ServerOption(server_option_name(name), value if equals else following if takes_next else None)
            takes_next = takes_next and not equals
        elif word[:2] in _LETTERS:
            yield ServerOption(_LETTERS[word[:2]], word[2:] or (following if takes_next else None))
            takes_next = takes_next and len(word) == 2
        if takes_next:
            next(rest)


def option_name(text: str) -> str:
    """A server option's name in its one form: dashes, without `loose-`."""
    return text.replace("_", "-").removeprefix("loose-")


def server_option_name(text: str) -> str:
    """As `option_name`; an abbreviation stands for the whole name, as for the server itself."""
    name = option_name(text)
    whole = (each for each, shortest in _SHORTEST.items() if each.startswith(name) and name.startswith(shortest))
    return next(whole, name)


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], bool, Sequence[str]]:
    """Our own options by name, whether --bypass is among them, and the server's command line after them."""
    ours: dict[str, str] = {}
    bypass = False
    rest = iter(range(len(arguments)))
    for position in rest:
        word = arguments[position]
        value = arguments[position + 1] if position + 1 < len(arguments) else None
        name = word.removeprefix("--")
        if word == "--mysqld-args":
            return ours, bypass, arguments[position + 1 :]
        if word == "--bypass":
            bypass = True
        elif not word:  # Percona XtraDB Cluster and MySQL pass one in the place of a binlog that they don't have
            continue
        elif not word.startswith("--"):
            raise _bad(f"the word {word!r} belongs to no option")
        elif value is not None and not value.startswith("--"):
            next(rest)
            if name in _OPTIONS and _said(value):
                ours[name] = value
        elif name in _OPTIONS:
            raise _bad(f"--{name} was passed without its value")
    return ours, bypass, ()


def _said(text: str | None) -> str | None:
    return None if text in ("", "(null)") else text


def _role(text: str | None) -> Role:
    try:
        return Role(text)
    except ValueError as error:
        raise _bad(f"the role is {text!r}; expected --role joiner or --role donor") from error


def _datadir(text: str | None, mysqld_args: Sequence[ServerOption]) -> Path:
    named = [option.value for option in mysqld_args if option.name == "datadir" and option.value]
    if text is None and not named:
        raise _bad("no --datadir was passed")
    return Path(text or named[-1])


def _path(text: str | None) -> Path | None:
    return Path(text) if text is not None else None


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise _bad(f"--{name} is {text!r}; expected a number")
    return int(text)


def _gtid(gtid: str | None, domain: str | None) -> tuple[str | None, int | None]:
    number = _number("gtid-domain-id", domain)
    if gtid is not None:
        try:
            parse_position(f"{gtid} {number or 0}")
        except SstError as error:
            raise _bad(f"--gtid is {gtid!r}; expected UUID:SEQNO") from error
    return gtid, number


def _secret(text: str | None) -> Secret | None:
    if text is None:
        return None
    user, _, password = text.partition(":")
    if not _USER.fullmatch(user) or not password:
        raise _bad("WSREP_SST_OPT_REMOTE_AUTH (not shown) is not USER:SECRET, as a joiner's ready line gives it")
    return Secret(user, password)


def _environment_paths(environment: Mapping[str, str]) -> ServerPaths:
    def said(name: str) -> str | None:
        return _said(environment.get(name))

    return ServerPaths(
        data_home=said("INNODB_DATA_HOME_DIR"),
        redo=said("WSREP_LOG_DIR") or said("INNODB_LOG_GROUP_HOME"),
        undo=said("INNODB_UNDO_DIR"),
        tmpdir=said("MYSQL_TMP_DIR") or said("TMPDIR"),
    )


def _bad(what: str) -> SstError:
    return SstError(f"the server's call can't be used: {what}", exit_code=ExitCode.BAD_SETTING)
