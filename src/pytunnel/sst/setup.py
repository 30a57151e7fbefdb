"""What both roles need before they begin, read and checked: settings, directories, credentials, rsync itself."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from OpenSSL import SSL

from pytunnel.confinement.privileges import forbid_core_dumps
from pytunnel.confinement.switch import confine
from pytunnel.confinement.threads import retire_threads
from pytunnel.sst.confinement import rules_for
from pytunnel.sst.directories import Layout, find_layout
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.keys import misspelt
from pytunnel.sst.method import SECURE_RSYNC, Method
from pytunnel.sst.optionfile import OptionGroup, read_group, read_server
from pytunnel.sst.request import Request
from pytunnel.sst.settings import SstSettings, read_settings
from pytunnel.sst.tlsfiles import TlsFiles, choose_files, secure_rsync_files
from pytunnel.system import descriptors
from pytunnel.system.heap import keep_freed_memory
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials, describe_subject, expiry_date, load_credentials

log = logging.getLogger(__name__)

_SCHEMA_OPTIONS = "db.opt"  # the server writes this file into each schema that it makes


@dataclass(frozen=True, slots=True)
class Setup:
    """One role's checked surroundings."""

    request: Request
    method: Method
    settings: SstSettings
    layout: Layout
    credentials: Credentials
    context: SSL.Context


async def prepare(request: Request, method: Method) -> Setup:
    """Read the option files and every file they name; nothing is changed, nothing listens.

    Raises PytunnelError for the first thing that would make the transfer fail.
    """
    forbid_core_dumps()
    keep_freed_memory()
    descriptors.raise_limit()
    sst, mysqld = await read_group(request, "sst"), await read_server(request)
    for warning in sst.warnings:
        log.warning("my_print_defaults says: %s", warning)
    for name, meant in misspelt(sst):
        log.warning("%s in [sst] means nothing, and is ignored; is %s meant?", name, meant)
    settings = read_settings(sst, files_of(request, method, sst, mysqld))
    layout = find_layout(request, mysqld, sst, settings.tls.files)
    _check_nested(layout)
    if shutil.which("rsync") is None:
        raise SstError("rsync is not installed, or not on the server's PATH; install it", exit_code=ExitCode.MISSING)
    credentials = load_credentials(settings.tls)
    context = make_context(settings.tls, credentials)
    _log_settings(settings, credentials)
    return Setup(request, method, settings, layout, credentials, context)


async def confine_role(setup: Setup, private: Path) -> None:
    """Give up what this transfer doesn't need, for us and all rsync processes; its directories are there by now.

    Raises ConfinementError.
    """
    rules = rules_for(setup.request, setup.layout, private)
    await retire_threads()
    log.info("confined: %s", confine(setup.settings.confine, rules))


def files_of(request: Request, method: Method, sst: OptionGroup, mysqld: OptionGroup) -> TlsFiles:
    """The certificate files of one role of `method`; raises SstError where they are not named as they have to be."""
    if method is not SECURE_RSYNC:
        return choose_files(sst, mysqld, request.role, request.datadir)
    directory = sst.get("wsrep-sst-auth") or request.auth
    if not directory or not directory.startswith("/"):  # another value may be a user and a password: not shown
        raise SstError(
            "no directory of certificates is configured: set wsrep_sst_auth (in [mysqld] or [sst]) to the directory "
            "that holds server.pem, server.crt, client.pem and client.crt",
            exit_code=ExitCode.BAD_SETTING,
        )
    return secure_rsync_files(Path(directory), request.role)


def _check_nested(layout: Layout) -> None:
    """Find a schema that would be left out because something else lies in it; raises SstError."""
    for place in layout.nested_places():
        if (place / _SCHEMA_OPTIONS).exists():
            raise SstError(
                f"{place} is a schema, and something else is placed there too (tmpdir, certificates, logs, "
                "Galera's files), which stays on its node: the schema would not travel; move that out of it",
                exit_code=ExitCode.BAD_SETTING,
            )


def _log_settings(settings: SstSettings, credentials: Credentials) -> None:
    for warning in (*credentials.warnings, *settings.warnings):
        log.warning("%s", warning)
    if not settings.tls.verify:
        log.warning("verify=0 or ssl-mode=REQUIRED: the other node is NOT verified, anyone can take its place")
    log.info(
        "%s: certificate %s from %s, key %s, valid until %s; CA %s (%d certificates); TLS %s or later, ciphers %s",
        settings.source,
        describe_subject(credentials.certificate),
        settings.tls.certificate,
        settings.tls.key or "in the same file",
        expiry_date(credentials.certificate),
        settings.tls.ca or settings.tls.ca_directory or settings.tls.peer_certificate or "none",
        len(credentials.trusted),
        settings.tls.minimum,
        settings.tls.ciphers or "our default",
    )
