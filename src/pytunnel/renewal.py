"""Keep a tunnel's certificates those of its files: read them again when they change, or when somebody asks for it.

New files take effect only if they can be used, all of them together; otherwise what was read last stays in use, and
the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import trio
from OpenSSL import SSL

from pytunnel.errors import PytunnelError
from pytunnel.pathwatch import PathWatch
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials, describe_subject, expiry_date, load_credentials
from pytunnel.tls.settings import TlsSettings

log = logging.getLogger(__name__)


class Renewal:
    """Reads the files of `settings` again.

    `take` gets what can be used, `fail` is called where it can't. The files are watched from now on: create it before
    they are read for the first time, and no change is lost.
    """

    def __init__(
        self, settings: TlsSettings, take: Callable[[Credentials, SSL.Context], None], fail: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._take = take
        self._fail = fail
        self._one_at_a_time = trio.Lock()
        self._watch = self._open_watch()

    async def run(self) -> None:
        """Renew after each change of a file; returns where the system doesn't let us watch, else when cancelled."""
        try:
            while self._watch is not None:
                await self._watch.changed()
                self._watch.close()
                self._watch = self._open_watch()  # before the files are read, and where their links lead now
                await self.renew()
        finally:
            if self._watch is not None:
                self._watch.close()

    async def renew(self) -> None:
        """Read all files, and take them if they can be used."""
        async with self._one_at_a_time:
            try:
                credentials, context = await trio.to_thread.run_sync(_load, self._settings, abandon_on_cancel=True)
            except PytunnelError as error:
                self._fail()
                log.error("the certificates are NOT renewed, the old ones stay in use: %s", error)
                return
            self._take(credentials, context)
            for warning in credentials.warnings:
                log.warning("%s", warning)
            log.info(
                "certificates renewed: new connections use %s, valid until %s; %d are trusted",
                describe_subject(credentials.certificate),
                expiry_date(credentials.certificate),
                len(credentials.trusted),
            )

    def _open_watch(self) -> PathWatch | None:
        try:
            watch = PathWatch(_files(self._settings))
        except OSError as error:
            log.warning("changes of the certificates' files go unnoticed (%s); send SIGHUP after one", error.strerror)
            return None
        for directory in watch.unwatched:
            log.warning("changes in %s may go unnoticed, it can't be read; send SIGHUP after one", directory)
        return watch


def _load(settings: TlsSettings) -> tuple[Credentials, SSL.Context]:
    credentials = load_credentials(settings)
    return credentials, make_context(settings, credentials)


def _files(settings: TlsSettings) -> Iterator[Path]:
    single = (settings.certificate, settings.key, settings.ca, settings.ca_directory)
    for path in (*single, *settings.revoked, settings.peer_certificate, settings.dh_parameters):
        if path is not None:
            yield path
