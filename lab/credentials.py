"""Put a node's certificates where its `[sst]` options name them, in each of the ways that the field uses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lab.account import Account
from lab.certificates import Identity, bundle_pem, write_public, write_secret
from lab.optionfile import Options


def combined_files(folder: Path, owner: Account, own: Identity, trusted: Iterable[Identity]) -> Options:
    """Key and certificate in one file, and the certificates of all that are trusted in another."""
    folder.mkdir(parents=True)
    return {
        "tca": str(write_public(folder / "ca.pem", bundle_pem(trusted))),
        "tcert": str(write_secret(folder / "node.pem", own.combined_pem(), owner)),
    }


def separate_files(folder: Path, owner: Account, own: Identity, trusted: Iterable[Identity]) -> Options:
    """Certificate, key and the certificates that are trusted, each in a file."""
    folder.mkdir(parents=True)
    return {
        "tca": str(write_public(folder / "ca.pem", bundle_pem(trusted))),
        "tcert": str(write_public(folder / "node.crt", own.certificate_pem())),
        "tkey": str(write_secret(folder / "node.key", own.key_pem(), owner)),
    }
