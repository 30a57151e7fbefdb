"""What each end of a tunnel shows and trusts: in memory for contexts, on disk for settings.

The certificates are made by lab.certificates.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from lab.account import Account
from lab.certificates import Identity
from lab.credentials import combined_files
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials
from pytunnel.tls.settings import TlsSettings

OURSELVES = Account("ourselves", os.geteuid(), os.getegid())


def credentials_of(own: Identity, trusted: Iterable[Identity] = ()) -> Credentials:
    """What load_credentials reads from the files of `own` and a bundle of `trusted`."""
    return Credentials(own.certificate, (), own.key, tuple(identity.certificate for identity in trusted))


def context_of(own: Identity, trusted: Iterable[Identity] = (), **settings: Any) -> SSL.Context:
    """A TLS context of an end that shows `own`, trusts `trusted` and has the given fields of TlsSettings."""
    return make_context(TlsSettings(**settings), credentials_of(own, trusted))


def settings_of(folder: Path, own: Identity, trusted: Iterable[Identity], **settings: Any) -> TlsSettings:
    """Write a combined PEM and a bundle into the new `folder`; settings that name them, with the given fields."""
    files = combined_files(folder, OURSELVES, own, trusted)
    return replace(TlsSettings(certificate=Path(str(files["tcert"])), ca=Path(str(files["tca"]))), **settings)
