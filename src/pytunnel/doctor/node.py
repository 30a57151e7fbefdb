"""A node as its option files, its host and its running server show it, read once for all checks."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from pytunnel.certs.access import Reader, find_reader, user_name
from pytunnel.certs.errors import CertsError
from pytunnel.doctor.findings import Finding, fault, from_error, ok, warning
from pytunnel.doctor.programs import SearchPath, find_runner
from pytunnel.doctor.server import (
    PROGRAMS,
    SERVICE_PATH,
    RunningServer,
    ServerVersion,
    ask_version,
    find_running,
)
from pytunnel.sst.address import Address
from pytunnel.sst.method import METHODS, Method
from pytunnel.sst.optionfile import OptionGroup, read_group, read_server
from pytunnel.sst.request import Request, Role

USER = "server's user"

_DEFAULT_DATADIR = "/var/lib/mysql"
_DEFAULT_USER = "mysql"
_DEFAULT_METHOD = "rsync"
_SERVER_FOLDER = "/usr/libexec"  # RHEL keeps the server's program outside every PATH
_NOWHERE = Address("nowhere")  # of the call that no server makes; nobody is told it


@dataclass(frozen=True, slots=True)
class OptionFiles:
    """Which option files the server reads, as its own options of these names say it."""

    defaults_file: Path | None = None
    defaults_extra_file: Path | None = None
    defaults_group_suffix: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """`request` is a call as the server would make it. `account` is the server's user, None where we can't ask in its
    name; `user_finding` tells who that is. `search` is where the server finds programs."""

    request: Request
    sst: OptionGroup
    mysqld: OptionGroup
    account: Reader | None
    user_finding: Finding
    version: ServerVersion | None
    running: RunningServer | None
    search: SearchPath

    @property
    def datadir(self) -> Path:
        """The server's."""
        return self.request.datadir

    @property
    def method_name(self) -> str:
        """The value of wsrep_sst_method."""
        return self.mysqld.get("wsrep-sst-method") or _DEFAULT_METHOD

    @property
    def method(self) -> Method | None:
        """The same, if it is one of ours."""
        return METHODS.get(self.method_name)

    def call(self, role: Role) -> Request:
        """The call that the server would make for one role."""
        return replace(self.request, role=role)


async def read_node(named: OptionFiles, user: str | None) -> Node:
    """Read everything; `user` goes before the option files' own.

    Raises SstError where my_print_defaults fails, CertsError for a `user` that can't be used.
    """
    request = Request(
        Role.JOINER,
        _NOWHERE,
        Path(_DEFAULT_DATADIR),
        defaults_file=named.defaults_file,
        defaults_extra_file=named.defaults_extra_file,
        defaults_group_suffix=named.defaults_group_suffix,
    )
    sst, mysqld = await read_group(request, "sst"), await read_server(request)
    datadir = Path(mysqld.get("datadir") or _DEFAULT_DATADIR)
    account, told = find_account(user, mysqld.get("user"))
    running = find_running(mysqld, datadir, account)
    search = SearchPath((running and running.path) or SERVICE_PATH, known=running is not None and bool(running.path))
    return Node(
        request=replace(request, datadir=datadir, auth=mysqld.get("wsrep-sst-auth")),
        sst=sst,
        mysqld=mysqld,
        account=account,
        user_finding=told,
        version=_server_version(search.path, find_runner(account)),
        running=running,
        search=search,
    )


def find_account(asked: str | None, configured: str | None) -> tuple[Reader | None, Finding]:
    """The server's user: the one that is asked for, else the option files', else mysql, else ourselves, but not root: a
    server runs as root only where it is told to."""
    if asked is not None:
        return find_reader(asked), ok(USER, f"{asked}, as asked for")
    if not configured and not _exists(_DEFAULT_USER) and os.geteuid() == 0:
        text = f"not known: [mysqld] names none, and this host has no user {_DEFAULT_USER}"
        return None, warning(USER, text, "name it by --user, or by user in [mysqld]")
    default = _DEFAULT_USER if _exists(_DEFAULT_USER) else user_name(os.geteuid())
    name = configured or default
    if not _exists(name):
        text = f"user={name} in [mysqld], but this host has no such user, so the server doesn't start"
        return None, fault(USER, text, f"correct it, or run: useradd --system {name}")
    try:
        return find_reader(name), ok(USER, f"{name}, {'from user in [mysqld]' if configured else 'the usual one'}")
    except CertsError as error:
        told = from_error(USER, error)
        return None, warning(USER, told.text, told.advice)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _server_version(path: str, runner: Reader | None) -> ServerVersion | None:
    places = os.pathsep.join((path, _SERVER_FOLDER))
    found = (shutil.which(name, path=places) for name in PROGRAMS)
    program = next((program for program in found if program is not None), None)
    return ask_version(program, runner) if program is not None and runner is not None else None
