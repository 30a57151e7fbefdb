"""Encryption at rest: keys that the joiner needs, and that a transfer by rsync doesn't carry."""

from __future__ import annotations

from pathlib import Path

from pytunnel.doctor.findings import Finding, ok, warning
from pytunnel.sst.optionfile import OptionGroup

KEYRING = "encryption at rest"

_LOADING = ("plugin-load", "plugin-load-add", "early-plugin-load")
_SERVICES = ("hashicorp_key_management", "aws_key_management", "keyring_vault", "keyring_okv", "keyring_kmip")
# The plugins that keep keys in a file, and the option that names it.
_IN_FILES = {
    "file_key_management": "file-key-management-filename",
    "keyring_encrypted_file": "keyring-encrypted-file-data",
    "keyring_file": "keyring-file-data",
}


def check_keyring(mysqld: OptionGroup) -> list[Finding]:
    """One finding for each plugin that manages keys; nothing where none is loaded."""
    loaded = " ".join(option.value or "" for option in mysqld.options if option.name in _LOADING)
    found = [ok(KEYRING, f"{plugin}: all nodes ask one key service") for plugin in _SERVICES if plugin in loaded]
    for plugin, option in _IN_FILES.items():
        if plugin in loaded or option in mysqld:
            found.append(_key_file(plugin, option, mysqld.get(option)))
    return found


def key_files(mysqld: OptionGroup) -> tuple[Path, ...]:
    """The files in which plugins keep keys, as the options spell them."""
    return tuple(Path(value) for option in _IN_FILES.values() if (value := mysqld.get(option)))


def _key_file(plugin: str, option: str, path: str | None) -> Finding:
    place = path or f"its file ({option})"
    if plugin == "file_key_management":
        return warning(
            KEYRING,
            f"{plugin}: the keys are in {place}, which no state transfer by rsync carries",
            f"give every node the same file: compare `sha256sum {place}`",
        )
    return warning(
        KEYRING,
        f"{plugin}: this node has a keyring of its own in {place}; a joiner can't read tables that its donor encrypted",
        "copy the donor's keyring to the joiner before it joins, or change to keyring_vault",
    )
