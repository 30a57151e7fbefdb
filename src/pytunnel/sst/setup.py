"""What both roles need before they begin, read and checked: settings, directories, credentials, rsync itself."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass

from OpenSSL import SSL

from pytunnel.heap import keep_freed_memory
from pytunnel.sst.directories import Layout, find_layout
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.optionfile import read_group, read_server
from pytunnel.sst.request import Request
from pytunnel.sst.settings import SstSettings, read_settings
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials, describe_subject, expiry_date, load_credentials

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """One role's checked surroundings."""

    request: Request
    settings: SstSettings
    layout: Layout
    credentials: Credentials
    context: SSL.Context


async def prepare(request: Request) -> Setup:
    """Read the option files and every file they name; nothing is changed, nothing listens.

    Raises PytunnelError for the first thing that would make the transfer fail.
    """
    keep_freed_memory()
    sst, mysqld = await read_group(request, "sst"), await read_server(request)
    for warning in sst.warnings:
        log.warning("my_print_defaults says: %s", warning)
    settings = read_settings(sst)
    layout = find_layout(request, mysqld, sst)
    if shutil.which("rsync") is None:
        raise SstError("rsync is not installed, or not on the server's PATH; install it", exit_code=ExitCode.MISSING)
    credentials = load_credentials(settings.tls)
    context = make_context(settings.tls, credentials)
    _log_settings(settings, credentials)
    return Setup(request, settings, layout, credentials, context)


def _log_settings(settings: SstSettings, credentials: Credentials) -> None:
    for warning in (*credentials.warnings, *settings.warnings):
        log.warning("%s", warning)
    if not settings.tls.verify:
        log.warning("verify=0: the other node is NOT verified, anyone on the network can take its place")
    log.info(
        "certificate %s from %s, key %s, valid until %s; CA %s (%d certificates); TLS %s or later, ciphers %s",
        describe_subject(credentials.certificate),
        settings.tls.certificate,
        settings.tls.key or "in the same file",
        expiry_date(credentials.certificate),
        settings.tls.ca or "none",
        len(credentials.trusted),
        settings.tls.minimum,
        settings.tls.ciphers or "our default",
    )
