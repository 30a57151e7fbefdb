"""What the server's option files tell us of a transfer, checked, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pytunnel.confinement.switch import Confine
from pytunnel.sockopt.words import SockOpt, SockoptError, apply_to_sockets, apply_to_tls, parse_sockopt
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.sst.route import Route, read_listen, read_route, read_transport, read_web_options
from pytunnel.sst.rsync import Saving
from pytunnel.sst.tlsfiles import NameRule, TlsFiles
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.options import SocketOptions

_DEFAULT_STREAMS = 4
_MOST_STREAMS = 64
_SWITCH = {"1": True, "on": True, "true": True, "yes": True, "0": False, "off": False, "false": False, "no": False}
_COMPRESSIONS = ("none", "lz4", "zstd")
_MODES = {"REQUIRED": (False, False), "VERIFY_CA": (True, False), "VERIFY_IDENTITY": (True, True)}


@dataclass(frozen=True, slots=True)
class SstSettings:
    """Everything that the option files decide. `streams` is how many rsync processes work at once, `route` the way
    between the nodes, `saving` how a donor sends fewer bytes.

    `source` says where the certificate files were named.
    """

    tls: TlsSettings
    sockets: SocketOptions
    name_rule: NameRule
    source: str
    legacy_donor: bool
    streams: int
    route: Route = field(default_factory=Route)
    saving: Saving = field(default_factory=Saving)
    warnings: tuple[str, ...] = ()
    confine: Confine = Confine.AUTO


def read_settings(sst: OptionGroup, files: TlsFiles) -> SstSettings:
    """Understand the `[sst]` group, given the files that were chosen.

    Raises SstError that names the key, its value and what is possible.
    """
    tls = _apply_mode(sst, files.tls)
    words = _sockopt(sst)
    try:
        tls = apply_to_tls(words, tls)
        sockets = apply_to_sockets(words, read_web_options(sst, SocketOptions()))
    except SockoptError as error:
        raise _refused_sockopt(error) from error
    legacy_donor = _legacy_donor(sst)
    _check_together(sst, words, tls, legacy_donor)
    return SstSettings(
        tls=_checked(tls),
        sockets=sockets,
        name_rule=files.name_rule,
        source=files.source,
        legacy_donor=legacy_donor,
        streams=_streams(sst),
        route=read_route(sst),
        saving=Saving(_compress(sst), _delta(sst)),
        warnings=words.notes,
        confine=_confine(sst),
    )


def refused_values(sst: OptionGroup) -> list[SstError]:
    """Every value in `[sst]` that read_settings would refuse, looked at by itself; it raises the first one only."""
    readers: tuple[Callable[[], object], ...] = (
        lambda: _sockopt(sst),
        lambda: _apply_mode(sst, TlsSettings()),
        lambda: _legacy_donor(sst),
        lambda: _streams(sst),
        lambda: _compress(sst),
        lambda: _delta(sst),
        lambda: read_transport(sst),
        lambda: read_listen(sst),
        lambda: read_web_options(sst, SocketOptions()),
        lambda: _confine(sst),
    )
    refused = []
    for read in readers:
        try:
            read()
        except SstError as error:
            refused.append(error)
    return refused


def _legacy_donor(sst: OptionGroup) -> bool:
    return _switch(sst, "legacy-donor")


def _streams(sst: OptionGroup) -> int:
    return _count(sst, "backup-threads", _DEFAULT_STREAMS, _MOST_STREAMS)


def _compress(sst: OptionGroup) -> str | None:
    if "compress" not in sst:
        return None
    text = sst.get("compress")
    if text not in _COMPRESSIONS:
        raise SstError(
            f"compress in [sst] is {text or 'without a value'}; expected {', '.join(_COMPRESSIONS)}",
            exit_code=ExitCode.BAD_SETTING,
        )
    return None if text == "none" else text


def _delta(sst: OptionGroup) -> bool:
    return _switch(sst, "delta")


def _confine(sst: OptionGroup) -> Confine:
    text = sst.get("confine") if "confine" in sst else Confine.AUTO.value
    try:
        return Confine(text)
    except ValueError as error:
        raise SstError(
            f"confine in [sst] is {text!r}; expected off, auto or require", exit_code=ExitCode.BAD_SETTING
        ) from error


def _sockopt(sst: OptionGroup) -> SockOpt:
    try:
        return parse_sockopt(sst.get("sockopt") or "")
    except SockoptError as error:
        raise _refused_sockopt(error) from error


def _refused_sockopt(error: SockoptError) -> SstError:
    return SstError(f"sockopt in [sst]: {error}", exit_code=ExitCode.BAD_SETTING)


def _apply_mode(sst: OptionGroup, tls: TlsSettings) -> TlsSettings:
    """`ssl-mode` as MySQL's clients have it: how much of the peer is verified."""
    if "ssl-mode" not in sst:
        return tls
    mode = (sst.get("ssl-mode") or "").upper()
    if mode not in _MODES:
        raise SstError(
            f"ssl-mode in [sst] is {sst.get('ssl-mode')!r}; expected {', '.join(_MODES)}; this is never in clear",
            exit_code=ExitCode.BAD_SETTING,
        )
    verify, verify_name = _MODES[mode]
    return replace(tls, verify=verify, verify_name=verify_name)


def _check_together(sst: OptionGroup, words: SockOpt, tls: TlsSettings, legacy_donor: bool) -> None:
    """Refuse settings that are possible each by itself, but not together."""
    if "ssl-mode" in sst and words.verify is not None and words.verify != _apply_mode(sst, tls).verify:
        raise SstError(
            f"ssl-mode={sst.get('ssl-mode')} and verify={int(words.verify)} of sockopt in [sst] contradict each other; "
            "remove one of them",
            exit_code=ExitCode.BAD_SETTING,
        )
    if legacy_donor and not tls.verify:
        raise SstError(
            "legacy-donor=1 and no verification (verify=0, ssl-mode=REQUIRED) in [sst] would together let anyone on "
            "the network write into the datadir; set tca for the time of the upgrade, or remove legacy-donor",
            exit_code=ExitCode.BAD_SETTING,
        )


def _checked(tls: TlsSettings) -> TlsSettings:
    """The settings, if there is enough in them to run."""
    if tls.certificate is None:
        raise SstError(
            "no certificate is configured: set tcert in [sst] to a PEM file with this node's certificate "
            "(and its key, unless tkey names another file)",
            exit_code=ExitCode.BAD_SETTING,
        )
    if not tls.verify:
        return replace(tls, ca=None, ca_directory=None, revoked=())
    if tls.ca is None and tls.ca_directory is None and tls.peer_certificate is None:
        raise SstError(
            "no CA is configured: set tca in [sst] to a file (or directory) with the certificates that this node "
            "trusts; sockopt=verify=0 would trust everyone",
            exit_code=ExitCode.BAD_SETTING,
        )
    return tls


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
