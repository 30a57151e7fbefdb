"""Keep a tunnel's certificates those of its files: read them again when they change, or when somebody asks for it.

New files take effect only if they can be used, all of them together; otherwise what was read last stays in use, and
the log says so.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import trio
from OpenSSL import SSL, crypto

from pytunnel.errors import PytunnelError
from pytunnel.system import logs
from pytunnel.system.pathwatch import PathWatch
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials, describe_subject, expiry_date, load_credentials
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.identity import MALFORMED
from pytunnel.tls.settings import TlsSettings

_MOST_READINGS = 5
_READING_LIMIT = 10.0  # seconds
_AGAIN = 60.0  # seconds until what could not be read, or watched, is tried again
_DENIED = (
    "its user may read it, so Landlock denies it: it permits the directories that held the files at the start; "
    "put the file there, or restart pytunnel, perhaps with --confine off"
)

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
        self._readers = trio.CapacityLimiter(1)  # one that hangs takes no thread from those who ask DNS
        self._failure: str | None = None  # of the last reading
        self._watch = self._open_watch()

    async def run(self, holder: Holder) -> None:
        """Renew after each change of a file until cancelled; what fails is tried again after a minute."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_changes, holder)
                nursery.start_soon(self._repeat_failures, holder)
        finally:
            if self._watch is not None:
                self._watch.close()

    async def renew(self, holder: Holder, *, repeated: bool = False) -> None:
        """Read all files, and take them if they can be used. A failure that is `repeated` is not told again."""
        async with self._one_at_a_time:
            try:
                credentials, context = await self._read()
            except PytunnelError as error:
                if not (repeated and self._failure == str(error)):
                    holder.keep()
                    log.error("the certificates are NOT renewed, the old ones stay in use: %s", error)
                self._failure = str(error)
                return
            self._failure = None
            holder.take(credentials, context)
            for warning in credentials.warnings:
                log.warning("%s", warning)
            log.info(
                "certificates renewed: new connections use %s, valid until %s; %d are trusted",
                describe_subject(credentials.certificate),
                expiry_date(credentials.certificate),
                len(credentials.trusted),
            )

    async def _follow_changes(self, holder: Holder) -> None:
        while True:
            if self._watch is None:
                await trio.sleep(_AGAIN)
                self._watch = self._open_watch(repeated=True)
                if self._watch is None:
                    continue
            else:
                await self._watch.changed()
                self._watch.close()
                self._watch = None
                self._watch = self._open_watch()  # before the files are read, and where their links lead now
            await self.renew(holder)

    async def _repeat_failures(self, holder: Holder) -> None:
        while True:
            await trio.sleep(_AGAIN)
            if self._failure is not None:
                await self.renew(holder, repeated=True)

    async def _read(self) -> tuple[Credentials, SSL.Context]:
        """In a thread: connections go on meanwhile, and a file system that hangs delays nothing for long."""
        try:
            with trio.fail_after(_READING_LIMIT):
                return await trio.to_thread.run_sync(
                    load, self._settings, abandon_on_cancel=True, limiter=self._readers
                )
        except trio.TooSlowError as error:
            raise CredentialsError(f"the files could not be read within {_READING_LIMIT:g} s") from error

    def _open_watch(self, *, repeated: bool = False) -> PathWatch | None:
        try:
            watch = PathWatch(self._settings.files)
        except OSError as error:
            if not repeated:
                reason = error.strerror
                log.warning("changes of the certificates' files go unnoticed (%s); send SIGHUP after one", reason)
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
            loaded = _load_once(settings)
            if _identities(settings) == before:
                return loaded
        if _identities(settings) == before:
            break
    return _load_once(settings)


def _load_once(settings: TlsSettings) -> tuple[Credentials, SSL.Context]:
    """Raises CredentialsError and nothing else: whatever a file holds, it must not end what runs."""
    try:
        credentials = load_credentials(settings)
        return credentials, make_context(settings, credentials)
    except CredentialsError as error:
        refusal = error.__cause__
        if isinstance(refusal, PermissionError) and _may_read(refusal.filename):
            raise CredentialsError(f"{refusal.filename} can't be read: {refusal.strerror}; {_DENIED}") from error
        raise
    except (OSError, SSL.Error, crypto.Error, *MALFORMED) as error:
        reason = str(error) or type(error).__name__
        raise CredentialsError(f"the certificates' files can't be used ({logs.one_line(reason)})") from error


def _may_read(path: str | None) -> bool:
    """Whether the user may; access(2) asks for that alone, an open() needs more. A refused read(2) names no file."""
    return path is not None and os.access(path, os.R_OK, effective_ids=True)


def _identities(settings: TlsSettings) -> list[tuple[int, ...] | None]:
    """What tells each file from another one at the same path, and from itself with another content."""
    return [_identity(path) for path in settings.files]


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
