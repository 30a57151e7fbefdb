"""What Galera's provider is told by the server's options, and where it keeps its own files.

These are each node's own, and mapped into the server's memory while a transfer runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pytunnel.sst.optionfile import OptionGroup

_WRAPPED = "wsrep-provider-options"
_PREFIX = "wsrep-provider-"
_CREDENTIALS = re.compile(r"socket\.ssl_(cert|key|ca|password_file)")
_DIRECTORY = re.compile(r"base[_.]dir|gcache\..*dir")
_MARKS = ("galera.cache", "gcache.page.*", "grastate.dat", "gvwstate.dat")


def provider_options(server: OptionGroup) -> dict[str, str]:
    """The provider's options under its own names, such as `socket.ssl_cert`.

    They are wrapped in one text, in which of two with the same name the last counts, or (MariaDB's plugin
    wsrep_provider) each is one of the server's.
    """
    words = (word.partition("=") for word in (server.get(_WRAPPED) or "").split(";"))
    wrapped = {key.strip(): value.strip() for key, _, value in words}
    own = {
        option.name.removeprefix(_PREFIX).replace("-", ".", 1).replace("-", "_"): option.value or ""
        for option in server.options
        if option.name.startswith(_PREFIX)
    }
    return own | wrapped


def named_places(server: OptionGroup) -> Iterator[Path]:
    """The directories that the server's options name for the provider, relative ones as they are written."""
    options = provider_options(server)
    home = server.get("wsrep-data-home-dir")
    directories = [value for key, value in options.items() if _DIRECTORY.fullmatch(key)]
    yield from map(Path, filter(None, (home, *directories)))
    if "gcache.name" in options:
        yield Path(options.get("gcache.dir") or home or "", options["gcache.name"]).parent


def named_credentials(server: OptionGroup) -> Iterator[Path]:
    """The files of certificates and keys that the server's options name for the provider, as they are written."""
    options = provider_options(server)
    yield from (Path(value) for key, value in options.items() if _CREDENTIALS.fullmatch(key) and value)


def marked_places(datadir: Path) -> Iterator[Path]:
    """Directories of the datadir's top level that hold such files, whatever has placed them there."""
    for mark in _MARKS:
        yield from (path.parent for path in datadir.glob(f"*/{mark}"))
