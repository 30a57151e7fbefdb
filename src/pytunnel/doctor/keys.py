"""The keys of `[sst]`: misspelt ones, ones in the wrong group, wrong values, and settings that give security away."""

from __future__ import annotations

import difflib

from pytunnel.doctor.findings import Finding, fault, from_error, ok, warning
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.sst.settings import SstSettings, refused_values

KEYS, VERIFICATION = "[sst] keys", "verification"

_TUNNEL_KEYS = (
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
_OWN = frozenset(
    {
        *_TUNNEL_KEYS,
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
        *("ssl-dhparams", "sst-idle-timeout", "sst-initial-timeout", "sst-log-archive", "sst-log-archive-dir"),
        *("sst-special-dirs", "sst-syslog", "streamfmt", "syslog-tag", "time", "tmpdir", "transferfmt"),
        *("use-extra", "use-memory", "wsrep-debug"),
    }
)
_LIKENESS = 0.75  # of difflib; two words of five letters that differ in one reach 0.8


def check_keys(sst: OptionGroup, mysqld: OptionGroup) -> list[Finding]:
    """Everything about the names and values of `[sst]`; values are never shown but for those that are refused."""
    found = [*_misplaced(mysqld), *_misspelt(sst), *(from_error(KEYS, error) for error in refused_values(sst))]
    used = list(dict.fromkeys(option.name for option in sst.options if option.name in _OWN))
    return found or [ok(KEYS, ", ".join(used) or "none")]


def check_verification(settings: SstSettings) -> Finding:
    """How much of the other node is verified."""
    tls = settings.tls
    if not tls.verify:
        return warning(
            VERIFICATION,
            "verify=0 or ssl-mode=REQUIRED: the other node is not verified, and anyone can take its place",
            "remove it from [sst], and set tca",
        )
    if tls.peer_certificate is not None:
        return ok(VERIFICATION, f"the other node must present the certificate in {tls.peer_certificate}")
    if not tls.verify_name:
        return ok(VERIFICATION, "the chain alone (ssl-mode=VERIFY_CA): any node of the CA can take another's place")
    return ok(VERIFICATION, "chain and name of the other node")


def check_legacy_donor(settings: SstSettings) -> list[Finding]:
    """`legacy-donor` is for the days of a rolling upgrade."""
    if not settings.legacy_donor:
        return []
    return [
        warning(
            "legacy-donor",
            "this joiner admits donors that don't know the secret of the transfer, and may get no Aria logs",
            "remove legacy-donor from [sst] when no node has the socat script any more",
        )
    ]


def _misplaced(mysqld: OptionGroup) -> list[Finding]:
    return [
        fault(KEYS, f"{key} is in [mysqld], where the server doesn't know it and won't start", f"move {key} to [sst]")
        for key in _TUNNEL_KEYS
        if key in mysqld
    ]


def _misspelt(sst: OptionGroup) -> list[Finding]:
    names = dict.fromkeys(option.name for option in sst.options)
    unknown = [name for name in names if name not in _OWN | _FOREIGN]
    near = ((name, difflib.get_close_matches(name, sorted(_OWN), n=1, cutoff=_LIKENESS)) for name in unknown)
    return [
        warning(KEYS, f"{name} in [sst] means nothing", f"write {own[0]}, if that is meant")
        for name, own in near
        if own
    ]
