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
_IDENTITY = ("ssl-cert", "ssl-key")
_TRUST = ("ssl-ca", "ssl-capath")
_DEMANDED = {"2": ("t", ("ca", "cert")), "3": ("t", ("key", "cert")), "4": ("ssl-", ("ca", "cert", "key"))}
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


@dataclass(frozen=True, slots=True)
class _Group:
    """A group of options with its name, for errors."""

    name: str
    options: OptionGroup

    def names(self, keys: Sequence[str], role: Role) -> bool:
        return any(key in self.options or _of_role(key, role) in self.options for key in keys)

    def paths(self, keys: Sequence[str], role: Role) -> tuple[Path | None, ...]:
        """What each key names; the role's own form of it goes first."""
        return tuple(self.path(_of_role(key, role)) or self.path(key) for key in keys)

    def path(self, key: str) -> Path | None:
        if key not in self.options:
            return None
        text = self.options.get(key)
        if not text:
            raise SstError(
                f"{key} in [{self.name}] is empty; expected the path of a PEM file", exit_code=ExitCode.BAD_SETTING
            )
        return Path(text)


def choose_files(sst: OptionGroup, mysqld: OptionGroup, role: Role, datadir: Path) -> TlsFiles:
    """The first of: cluster-wide mode, `[sst]` t* keys, ssl-* keys of `[sst]` before those of `[mysqld]`.

    A certificate and its key are of one group, and so are the CA's file and directory. With none of them, nothing is
    chosen: `sockopt` may name the files. Raises SstError for a demand of `encrypt` that is not met, and for missing
    files of the cluster-wide mode.
    """
    if mysqld.is_on(CLUSTER_MODE):
        return _cluster_wide(mysqld, datadir)
    mode = _encrypt_mode(sst)
    own, server = _Group("sst", sst), _Group("mysqld", mysqld)
    if mode in ("2", "3") or (mode is None and any(key in sst for key in _T_KEYS)):
        files = TlsFiles(_t_files(own), "tca, tcert and tkey in [sst]")
    else:
        files = _ssl_files(own, server, role)
    if mode is not None:
        _check_demand(mode, files)
    return files


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
        certificate=paths["ssl-cert"],
        key=paths["ssl-key"],
        ca=paths["ssl-ca"],
        revoked=_revoked((_Group("mysqld", mysqld),)),
    )
    return TlsFiles(tls, f"{CLUSTER_MODE}=ON", NameRule.SHARED)


def _encrypt_mode(sst: OptionGroup) -> str | None:
    if "encrypt" not in sst:
        return None
    mode = sst.get("encrypt") or ""
    if mode in ("0", "1"):
        raise SstError(
            f"encrypt={mode} in [sst] asks for a transfer in clear or of another kind; this method always uses TLS. "
            "Expected 2 (tca, tcert), 3 (tkey, tcert) or 4 (ssl-ca, ssl-cert, ssl-key), or no encrypt at all",
            exit_code=ExitCode.BAD_SETTING,
        )
    if mode not in _DEMANDED:
        raise SstError(f"encrypt in [sst] is {mode!r}; expected 2, 3 or 4", exit_code=ExitCode.BAD_SETTING)
    return mode


def _check_demand(mode: str, files: TlsFiles) -> None:
    tls = files.tls
    prefix, demanded = _DEMANDED[mode]
    given = {"ca": tls.ca, "cert": tls.certificate, "key": tls.key}
    missing = [prefix + name for name in demanded if given[name] is None]
    if not missing:
        return
    text = (
        f"encrypt={mode} in [sst] demands {', '.join(prefix + name for name in demanded)}, but "
        f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
    )
    if mode == "4" and (tls.certificate is None) != (tls.key is None):
        text += f"; a certificate and its key are taken from the same group (found: {files.source})"
    raise SstError(text, exit_code=ExitCode.BAD_SETTING)


def _t_files(sst: _Group) -> TlsSettings:
    return TlsSettings(
        certificate=sst.path("tcert"),
        key=sst.path("tkey"),
        ca=sst.path("tca"),
        ca_directory=sst.path("tcapath"),
        revoked=_revoked((sst,)),
    )


def _ssl_files(own: _Group, server: _Group, role: Role) -> TlsFiles:
    """Own files and CA, each from the first group that names any of them; mixed, key and certificate would not fit."""
    groups = (own, server)
    identity = next((group for group in groups if group.names(_IDENTITY, role)), None)
    trust = next((group for group in groups if group.names(_TRUST, role)), None)
    certificate, key = identity.paths(_IDENTITY, role) if identity is not None else (None, None)
    ca, ca_directory = trust.paths(_TRUST, role) if trust is not None else (None, None)
    if identity is None and trust is None:
        return TlsFiles(_t_files(own), "sockopt in [sst]")
    named = (("ssl-cert" if certificate is not None else "ssl-key", identity), ("ssl-ca", trust))
    places = [f"{name} in [{group.name}]" for name, group in named if group is not None]
    return TlsFiles(
        TlsSettings(certificate=certificate, key=key, ca=ca, ca_directory=ca_directory, revoked=_revoked(groups)),
        f"ssl-* in [{identity.name}]" if identity is not None and identity is trust else " and ".join(places),
        NameRule.SHOULD_CARRY if (identity or trust) is server else NameRule.MUST_CARRY,
    )


def _revoked(groups: Sequence[_Group]) -> tuple[Path, ...]:
    """The revocation lists of the first group that names any."""
    for group in groups:
        paths = [path for key in ("ssl-crl", "ssl-crlpath") if (path := group.path(key)) is not None]
        if paths:
            return tuple(paths)
    return ()


def _of_role(key: str, role: Role) -> str:
    return key.replace("ssl-", _PREFIX[role], 1)
