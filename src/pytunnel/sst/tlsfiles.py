"""Which certificate files a transfer uses, out of all the ways in which clusters name them.

Pure: options in, paths out. Whether the files are there and fit is pytunnel.tls.credentials' part, but for the
cluster-wide mode of Percona, in which every file has a default and all missing ones are named at once.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.sst.request import Role
from pytunnel.tls.settings import TlsSettings

CLUSTER_MODE = "pxc-encrypt-cluster-traffic"
"""Percona's option for all channels between nodes at once."""

_CLUSTER_FILES = (("ssl-ca", "ca.pem"), ("ssl-cert", "server-cert.pem"), ("ssl-key", "server-key.pem"))
_T_KEYS = ("tca", "tcapath", "tcert", "tkey")
_SSL_KEYS = ("ssl-ca", "ssl-capath", "ssl-cert", "ssl-key")
_DEMANDED = {"2": ("tca", "tcert"), "3": ("tkey", "tcert"), "4": ("ssl-ca", "ssl-cert", "ssl-key")}
_PREFIX = {Role.JOINER: "ssl-server-", Role.DONOR: "ssl-client-"}


class NameRule(enum.Enum):
    """What the node's own certificate has to do with the address that the node announces."""

    MUST_CARRY = "must carry"
    """It was made for state transfers: a joiner whose certificate doesn't carry its name is not started."""
    SHOULD_CARRY = "should carry"
    """It is the database server's: the joiner warns, for only a donor with the same certificate will accept it."""
    SHARED = "shared"
    """All nodes have the same certificate, so the peer's name is our own certificate's."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The chosen files, where they were named (for the log), and what their names must be."""

    tls: TlsSettings
    source: str
    name_rule: NameRule = NameRule.MUST_CARRY


def choose_files(sst: OptionGroup, mysqld: OptionGroup, role: Role, datadir: Path) -> TlsFiles:
    """The first of: cluster-wide mode, `[sst]` t* keys, `[sst]` ssl-*, `[mysqld]` ssl-*.

    With none of them, nothing is chosen: `sockopt` may name the files. Raises SstError for a demand of `encrypt` that
    is not met, and for missing files of the cluster-wide mode.
    """
    if mysqld.is_on(CLUSTER_MODE):
        return _cluster_wide(mysqld, datadir)
    _check_encrypt(sst, mysqld)
    if (sst.get("encrypt") or "") != "4" and any(key in sst for key in _T_KEYS):
        return TlsFiles(_t_files(sst), "tca, tcert and tkey in [sst]")
    if _names_ssl(sst, role):
        return TlsFiles(_ssl_files(sst, (sst, mysqld), role), "ssl-* in [sst]")
    if _names_ssl(mysqld, role):
        return TlsFiles(_ssl_files(mysqld, (sst, mysqld), role), "ssl-* in [mysqld]", NameRule.SHOULD_CARRY)
    return TlsFiles(_t_files(sst), "sockopt in [sst]")


def secure_rsync_files(directory: Path, role: Role) -> TlsFiles:
    """The files of the method `secure_rsync`: each side admits exactly the other side's certificate."""
    own, peer = ("server.pem", "client.crt") if role is Role.JOINER else ("client.pem", "server.crt")
    tls = TlsSettings(certificate=directory / own, peer_certificate=directory / peer)
    return TlsFiles(tls, f"wsrep_sst_auth={directory}", NameRule.SHARED)


def _cluster_wide(mysqld: OptionGroup, datadir: Path) -> TlsFiles:
    paths = {key: datadir / (mysqld.get(key) or default) for key, default in _CLUSTER_FILES}
    missing = [str(path) for path in paths.values() if not path.exists()]
    if missing:
        raise SstError(
            f"{CLUSTER_MODE} is on, but {' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not exist; "
            "copy the files of the first node there, or name others by ssl-ca, ssl-cert and ssl-key in [mysqld]",
            exit_code=ExitCode.MISSING,
        )
    tls = TlsSettings(
        certificate=paths["ssl-cert"], key=paths["ssl-key"], ca=paths["ssl-ca"], revoked=_revoked((mysqld,))
    )
    return TlsFiles(tls, f"{CLUSTER_MODE}=ON", NameRule.SHARED)


def _check_encrypt(sst: OptionGroup, mysqld: OptionGroup) -> None:
    if "encrypt" not in sst:
        return
    mode = sst.get("encrypt") or ""
    if mode in ("0", "1"):
        raise SstError(
            f"encrypt={mode} in [sst] asks for a transfer in clear or of another kind; this method always uses TLS. "
            "Expected 2 (tca, tcert), 3 (tkey, tcert) or 4 (ssl-ca, ssl-cert, ssl-key), or no encrypt at all",
            exit_code=ExitCode.BAD_SETTING,
        )
    if mode not in _DEMANDED:
        raise SstError(f"encrypt in [sst] is {mode!r}; expected 2, 3 or 4", exit_code=ExitCode.BAD_SETTING)
    missing = [key for key in _DEMANDED[mode] if not (sst.get(key) or (mode == "4" and mysqld.get(key)))]
    if missing:
        raise SstError(
            f"encrypt={mode} in [sst] demands {', '.join(_DEMANDED[mode])}, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set",
            exit_code=ExitCode.BAD_SETTING,
        )


def _t_files(sst: OptionGroup) -> TlsSettings:
    return TlsSettings(
        certificate=_path(sst, "tcert"),
        key=_path(sst, "tkey"),
        ca=_path(sst, "tca"),
        ca_directory=_path(sst, "tcapath"),
        revoked=_revoked((sst,)),
    )


def _names_ssl(group: OptionGroup, role: Role) -> bool:
    return any(key in group or _of_role(key, role) in group for key in _SSL_KEYS)


def _ssl_files(group: OptionGroup, groups: Sequence[OptionGroup], role: Role) -> TlsSettings:
    def chosen(key: str) -> Path | None:
        return _path(group, _of_role(key, role)) or _path(group, key)

    return TlsSettings(
        certificate=chosen("ssl-cert"),
        key=chosen("ssl-key"),
        ca=chosen("ssl-ca"),
        ca_directory=chosen("ssl-capath"),
        revoked=_revoked(groups),
    )


def _of_role(key: str, role: Role) -> str:
    return key.replace("ssl-", _PREFIX[role], 1)


def _revoked(groups: Sequence[OptionGroup]) -> tuple[Path, ...]:
    """The revocation lists of the first group that names any."""
    for group in groups:
        paths = [path for key in ("ssl-crl", "ssl-crlpath") if (path := _path(group, key)) is not None]
        if paths:
            return tuple(paths)
    return ()


def _path(group: OptionGroup, key: str) -> Path | None:
    if key not in group:
        return None
    text = group.get(key)
    if not text:
        raise SstError(f"{key} in [sst] is empty; expected the path of a PEM file", exit_code=ExitCode.BAD_SETTING)
    return Path(text)
