"""Keep a tunnel's certificates those of its files: read them again when they change, or when somebody asks for it.

New files take effect only if they can be used, all of them together; otherwise what was read last stays in use, and
the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio
from OpenSSL import SSL

from pytunnel.errors import PytunnelError
from pytunnel.system.pathwatch import PathWatch
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials, describe_subject, expiry_date, load_credentials
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.settings import TlsSettings

_MOST_READINGS = 5
_READING_LIMIT = 10.0  # seconds

log = logging.getLogger(__name__)


class Holder(Protocol):
    """Whose certificates are renewed."""

    def take(self, credentials: Credentials, context: SSL.Context) -> None:
        """Use these from now on."""

    def keep(self) -> None:
        """Go on with the old ones: the new ones can't be used."""


class Renewal:
    """Reads the files of `settings` again.

    The files are watched from now on: create it before they are read for the first time, and no change is lost.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._one_at_a_time = trio.Lock()
        self._watch = self._open_watch()

    async def run(self, holder: Holder) -> None:
        """Renew after each change of a file until cancelled, or until the system lets us watch no more."""
        try:
            while self._watch is not None:
                await self._watch.changed()
                self._watch.close()
                self._watch = self._open_watch()  # before the files are read, and where their links lead now
                await self.renew(holder)
        finally:
            if self._watch is not None:
                self._watch.close()

    async def renew(self, holder: Holder) -> None:
        """Read all files, and take them if they can be used."""
        async with self._one_at_a_time:
            try:
                credentials, context = await self._read()
            except PytunnelError as error:
                holder.keep()
                log.error("the certificates are NOT renewed, the old ones stay in use: %s", error)
                return
            holder.take(credentials, context)
            for warning in credentials.warnings:
                log.warning("%s", warning)
            log.info(
                "certificates renewed: new connections use %s, valid until %s; %d are trusted",
                describe_subject(credentials.certificate),
                expiry_date(credentials.certificate),
                len(credentials.trusted),
            )

    async def _read(self) -> tuple[Credentials, SSL.Context]:
        """In a thread: connections go on meanwhile, and a file system that hangs delays nothing for long."""
        try:
            with trio.fail_after(_READING_LIMIT):
                return await trio.to_thread.run_sync(load, self._settings, abandon_on_cancel=True)
        except trio.TooSlowError as error:
            raise CredentialsError(f"the files could not be read within {_READING_LIMIT:g} s") from error

    def _open_watch(self) -> PathWatch | None:
        try:
            watch = PathWatch(_files(self._settings))
        except OSError as error:
            log.warning("changes of the certificates' files go unnoticed (%s); send SIGHUP after one", error.strerror)
            return None
        for directory in watch.unwatched:
            log.warning("changes in %s may go unnoticed, it can't be read; send SIGHUP after one", directory)
        return watch


def load(settings: TlsSettings) -> tuple[Credentials, SSL.Context]:
    """Read and check all files; again if they were changed meanwhile, for half of them would be old ones.

    Raises CredentialsError.
    """
    for _ in range(_MOST_READINGS):
        before = _identities(settings)
        with suppress(CredentialsError):
            credentials = load_credentials(settings)
            context = make_context(settings, credentials)
            if _identities(settings) == before:
                return credentials, context
        if _identities(settings) == before:
            break
    credentials = load_credentials(settings)
    return credentials, make_context(settings, credentials)


def _identities(settings: TlsSettings) -> list[tuple[int, ...] | None]:
    """What tells each file from another one at the same path, and from itself with another content."""
    return [_identity(path) for path in _files(settings)]


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _files(settings: TlsSettings) -> Iterator[Path]:
    single = (settings.certificate, settings.key, settings.ca, settings.ca_directory)
    for path in (*single, *settings.revoked, settings.peer_certificate, settings.dh_parameters):
        if path is not None:
            yield path
