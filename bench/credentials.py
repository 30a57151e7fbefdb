"""The certificates of both ends of every tunnel: self-signed, each end trusts exactly both."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.account import Account
from lab.certificates import Identity, PrivateKey, elliptic_key, rsa_key, self_signed
from lab.credentials import combined_files

NAME = "localhost"
KEYS: dict[str, Callable[[], PrivateKey]] = {"ecdsa": elliptic_key, "rsa": rsa_key}


@dataclass(frozen=True, slots=True)
class End:
    """What one end shows (certificate and key in one file) and whom it trusts."""

    identity: Identity
    certificate: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Ends:
    """The end that connects and the one that listens."""

    client: End
    server: End


def make_ends(folder: Path, kind: str) -> Ends:
    """Write the files of both ends, with keys of this kind of KEYS, into `folder`."""
    identities = [self_signed(NAME, key=KEYS[kind]()) for _ in range(2)]
    owner = Account("ourselves", os.geteuid(), os.getegid())
    ends = []
    for name, identity in zip(("client", "server"), identities, strict=True):
        files = combined_files(folder / kind / name, owner, identity, identities)
        ends.append(End(identity, Path(str(files["tcert"])), Path(str(files["tca"]))))
    return Ends(*ends)
