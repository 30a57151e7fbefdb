"""The keys of `[sst]`: misspelt ones, ones in the wrong group, wrong values, and settings that give security away."""

from __future__ import annotations

from pytunnel.doctor.findings import Finding, fault, from_error, ok, warning
from pytunnel.sst.keys import OWN_KEYS, TUNNEL_KEYS, misspelt
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.sst.settings import SstSettings, refused_values

KEYS, VERIFICATION = "[sst] keys", "verification"


def check_keys(sst: OptionGroup, mysqld: OptionGroup) -> list[Finding]:
    """Everything about the names and values of `[sst]`; values are never shown but for those that are refused."""
    found = [*_misplaced(mysqld), *_misspelt(sst), *(from_error(KEYS, error) for error in refused_values(sst))]
    used = list(dict.fromkeys(option.name for option in sst.options if option.name in OWN_KEYS))
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
        for key in TUNNEL_KEYS
        if key in mysqld
    ]


def _misspelt(sst: OptionGroup) -> list[Finding]:
    return [
        warning(KEYS, f"{name} in [sst] means nothing", f"write {meant}, if that is meant")
        for name, meant in misspelt(sst)
    ]
