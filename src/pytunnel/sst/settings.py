"""What `[sst]` in the server's option files tells us, checked, as one value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pytunnel.sockopt import SockoptError, apply_to_sockets, apply_to_tls, parse_sockopt
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.options import SocketOptions

_DEFAULT_STREAMS = 4
_MOST_STREAMS = 64
_SWITCH = {"1": True, "on": True, "true": True, "yes": True, "0": False, "off": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class SstSettings:
    """Everything `[sst]` decides. `streams` is how many rsync processes work at once (`backup-threads`)."""

    tls: TlsSettings
    sockets: SocketOptions
    legacy_donor: bool
    streams: int
    warnings: tuple[str, ...] = ()


def read_settings(group: OptionGroup) -> SstSettings:
    """Understand the `[sst]` group; raises SstError that names the key, its value and what is possible."""
    tls = TlsSettings(
        certificate=_file(group, "tcert"),
        key=_file(group, "tkey"),
        ca=_file(group, "tca"),
    )
    try:
        words = parse_sockopt(group.get("sockopt") or "")
        tls = apply_to_tls(words, tls)
        sockets = apply_to_sockets(words, SocketOptions())
    except SockoptError as error:
        raise SstError(f"sockopt in [sst]: {error}", exit_code=ExitCode.BAD_SETTING) from error
    if tls.certificate is None:
        raise SstError(
            "no certificate is configured: set tcert in [sst] to a PEM file with this node's certificate "
            "(and its key, unless tkey names another file)",
            exit_code=ExitCode.BAD_SETTING,
        )
    if not tls.verify:
        tls = replace(tls, ca=None)
    elif tls.ca is None:
        raise SstError(
            "no CA is configured: set tca in [sst] to a file (or directory) with the certificates that this node "
            "trusts; sockopt=verify=0 would trust everyone",
            exit_code=ExitCode.BAD_SETTING,
        )
    return SstSettings(
        tls=tls,
        sockets=sockets,
        legacy_donor=_switch(group, "legacy-donor"),
        streams=_count(group, "backup-threads", _DEFAULT_STREAMS, _MOST_STREAMS),
        warnings=words.notes,
    )


def _file(group: OptionGroup, key: str) -> Path | None:
    if key not in group:
        return None
    text = group.get(key)
    if not text:
        raise SstError(f"{key} in [sst] is empty; expected the path of a PEM file", exit_code=ExitCode.BAD_SETTING)
    return Path(text)


def _switch(group: OptionGroup, key: str) -> bool:
    if key not in group:
        return False
    text = group.get(key)
    if text is None:
        return True
    if text.lower() not in _SWITCH:
        raise SstError(f"{key} in [sst] is {text!r}; expected 1 or 0", exit_code=ExitCode.BAD_SETTING)
    return _SWITCH[text.lower()]


def _count(group: OptionGroup, key: str, default: int, most: int) -> int:
    if key not in group:
        return default
    text = group.get(key) or ""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise SstError(
            f"{key} in [sst] is {text!r}; expected a number from 1 to {most}", exit_code=ExitCode.BAD_SETTING
        )
    return int(text)
