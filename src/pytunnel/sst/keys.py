"""The names of the keys in `[sst]`: ours, those of other methods, and those that are nearly one of ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from pytunnel.sst.optionfile import OptionGroup

TUNNEL_KEYS = (
    "tcert",
    "tkey",
    "tca",
    "tcapath",
    "sockopt",
    "backup-threads",
    "compress",
    "delta",
    "legacy-donor",
    "confine",
)
_ROUTE_KEYS = ("transport", "listen", "outer-ca", "header", "proxy")
_FILES = ("ca", "capath", "cert", "key")
OWN_KEYS = frozenset(
    {
        *TUNNEL_KEYS,
        *_ROUTE_KEYS,
        *(f"{prefix}{file}" for prefix in ("ssl-", "ssl-server-", "ssl-client-") for file in _FILES),
        *("ssl-crl", "ssl-crlpath", "ssl-mode", "encrypt", "sst-max-binlogs", "wsrep-sst-auth"),
    }
)
# What the servers' own methods read from the same group. They are not misspellings of ours.
_FOREIGN = frozenset(
    {
        *("compress-chunk-size", "compress-threads", "compressor", "cpat", "decompressor"),
        *("encrypt-algo", "encrypt-chunk-size", "encrypt-format", "encrypt-key", "encrypt-key-file", "encrypt-threads"),
        *("inno-apply-opts", "inno-backup-opts", "inno-move-opts", "ncsockopt", "progress", "rebuild", "rlimit"),
        *("ssl-cipher", "ssl-dhparams", "ssl-verify-server-cert", "sst-idle-timeout", "sst-initial-timeout"),
        *("sst-log-archive", "sst-log-archive-dir"),
        *("sst-special-dirs", "sst-syslog", "streamfmt", "syslog-tag", "time", "tmpdir", "transferfmt"),
        *("use-extra", "use-memory", "wsrep-debug"),
    }
)
_LIKENESS = 0.75  # of difflib; two words of five letters that differ in one reach 0.8


def misspelt(sst: OptionGroup) -> Iterator[tuple[str, str]]:
    """Keys that nobody reads, each with the one of ours that it looks like."""
    for name in dict.fromkeys(option.name for option in sst.options):
        if name not in OWN_KEYS | _FOREIGN:
            for meant in difflib.get_close_matches(name, sorted(OWN_KEYS), 1, _LIKENESS):
                yield name, meant
