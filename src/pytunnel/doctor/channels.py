"""Which of a node's four channels are encrypted, and by which option.

Every transaction passes through all but the first, so one that is in clear makes the encryption of the others
worth little.
"""

from __future__ import annotations

from pytunnel.doctor.findings import Finding, fault, ok, warning
from pytunnel.doctor.provider import ProviderOptions, read_provider_options
from pytunnel.doctor.server import ServerVersion
from pytunnel.sst.method import METHODS
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.sst.tlsfiles import CLUSTER_MODE

CLIENT, REPLICATION, IST, SST = "client channel", "replication channel", "IST channel", "SST channel"

_SERVER_MODES = ("SERVER", "SERVER_X509")
_ENCRYPT = {
    "2": "socat with certificates (encrypt=2), which does not check the other node's name",
    "3": "socat with certificates (encrypt=3), which does not check the other node's name",
    "4": "socat with certificates (encrypt=4)",
}
_USE_TUNNEL = "set wsrep_sst_method=rsync_tunnel on all nodes"


def check_client_channel(mysqld: OptionGroup, version: ServerVersion | None) -> Finding:
    """What the server offers its clients, and whether it insists."""
    demanded = mysqld.is_on("require-secure-transport")
    offered = _client_certificate(mysqld, version)
    if offered is None and demanded:
        return fault(
            CLIENT,
            "require_secure_transport is on, but the server has no certificate, so no client can connect over TCP",
            "set ssl-cert and ssl-key in [mysqld]",
        )
    if offered is None:
        return warning(CLIENT, "not encrypted: the server has no certificate", "set ssl-cert and ssl-key in [mysqld]")
    if not demanded:
        return warning(
            CLIENT,
            f"encrypted by {offered} for those clients that ask for it",
            "set require_secure_transport=ON in [mysqld] when all clients do",
        )
    return ok(CLIENT, f"encrypted by {offered}; require_secure_transport demands it")


def check_replication_channel(mysqld: OptionGroup) -> Finding:
    """The group communication and the write sets."""
    return _provider_channel(REPLICATION, mysqld)


def check_ist_channel(mysqld: OptionGroup) -> Finding:
    """The missing transactions that a joiner gets instead of a snapshot."""
    address = read_provider_options(mysqld).ist_address or ""
    if address.startswith("tcp://"):
        return warning(
            IST,
            "not encrypted: ist.recv_addr in wsrep_provider_options begins with tcp://",
            "write ist.recv_addr without tcp://; it then follows socket.ssl",
        )
    return _provider_channel(IST, mysqld)


def check_sst_channel(method: str, sst: OptionGroup, mysqld: OptionGroup, *, has_stunnel: bool) -> Finding:
    """The snapshot, by our method or one of the server's own; `method` is wsrep_sst_method's value."""
    if method in METHODS:
        return ok(SST, f"encrypted by wsrep_sst_method={method}: always, with a certificate on both sides")
    if method in ("rsync", "rsync_wan"):
        return _rsync_channel(method, sst, mysqld, has_stunnel=has_stunnel)
    if method in ("mariabackup", "xtrabackup", "xtrabackup-v2"):
        return _backup_channel(method, sst, mysqld)
    if method == "skip":
        return ok(SST, "wsrep_sst_method=skip: no snapshot is ever transferred")
    return warning(
        SST,
        f"whether wsrep_sst_method={method} encrypts is not known here",
        f"see that method's manual, or {_USE_TUNNEL}",
    )


def _client_certificate(mysqld: OptionGroup, version: ServerVersion | None) -> str | None:
    """Where the server has its certificate from; None where it has none."""
    if mysqld.is_on("skip-ssl") or ("ssl" in mysqld and not mysqld.is_on("ssl")):
        return None
    if mysqld.get("ssl-cert") and mysqld.get("ssl-key"):
        return "ssl-cert and ssl-key"
    if version is not None and version.makes_certificate:
        return f"a certificate that the server makes itself ({version})"
    return None


def _provider_channel(channel: str, mysqld: OptionGroup) -> Finding:
    if mysqld.is_on(CLUSTER_MODE):
        return ok(channel, f"encrypted by {CLUSTER_MODE}=ON")
    mode = (mysqld.get("wsrep-ssl-mode") or "").upper()
    if mode in _SERVER_MODES:
        return ok(channel, f"encrypted by wsrep_ssl_mode={mode} with the server's certificate")
    return _socket_channel(channel, read_provider_options(mysqld))


def _socket_channel(channel: str, options: ProviderOptions) -> Finding:
    place = "in wsrep_provider_options"
    if not options.uses_tls:
        reason = f"socket.ssl={options.ssl}" if options.ssl is not None else "no socket.ssl_cert and socket.ssl_key"
        return warning(
            channel,
            f"not encrypted: {reason} {place}",
            f"set socket.ssl_cert, socket.ssl_key and socket.ssl_ca {place}; one node at a time with socket.dynamic",
        )
    missing = [
        name
        for name, value in (("socket.ssl_cert", options.certificate), ("socket.ssl_key", options.key))
        if value is None
    ]
    if missing:
        return fault(
            channel,
            f"TLS is asked for, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set {place}, "
            "so the server doesn't start",
            f"set socket.ssl_cert and socket.ssl_key {place}",
        )
    if options.accepts_plain:
        return warning(
            channel,
            f"encrypted by socket.ssl_cert {place}, but socket.dynamic lets nodes without TLS in as well",
            "remove socket.dynamic when all nodes have TLS",
        )
    return ok(channel, f"encrypted by {'socket.ssl_cert' if options.ssl is None else 'socket.ssl'} {place}")


def _rsync_channel(method: str, sst: OptionGroup, mysqld: OptionGroup, *, has_stunnel: bool) -> Finding:
    """The server's own rsync method goes through stunnel where certificates or an ssl-mode are set."""
    mode = (sst.get("ssl-mode") or mysqld.get("ssl-mode") or "").upper()
    if not mode:
        mode = _implied_mode(sst, mysqld)
    if mode in ("", "DISABLED"):
        reason = "ssl-mode=DISABLED" if mode else "no certificate and no ssl-mode in [sst]"
        return warning(SST, f"not encrypted: wsrep_sst_method={method} with {reason}", _USE_TUNNEL)
    if not has_stunnel:
        return fault(
            SST,
            f"wsrep_sst_method={method} encrypts by stunnel (ssl-mode={mode}), which is not installed: "
            "the transfer fails, or with older servers goes in clear",
            f"install stunnel, or {_USE_TUNNEL}",
        )
    if mode == "REQUIRED":
        return warning(
            SST,
            f"encrypted by stunnel (wsrep_sst_method={method}, ssl-mode=REQUIRED), but the other node is not verified",
            f"set tca in [sst] and ssl-mode=VERIFY_IDENTITY, or {_USE_TUNNEL}",
        )
    return ok(SST, f"encrypted by stunnel (wsrep_sst_method={method}, ssl-mode={mode})")


def _implied_mode(sst: OptionGroup, mysqld: OptionGroup) -> str:
    def named(*keys: str) -> bool:
        return all(sst.get(key) for key in keys)

    def named_anywhere(*keys: str) -> bool:
        return all(sst.get(key) or mysqld.get(key) for key in keys)

    if named("tca") or named("tcapath") or named_anywhere("ssl-ca") or named_anywhere("ssl-capath"):
        return "VERIFY_CA"
    return "REQUIRED" if named("tcert", "tkey") or named_anywhere("ssl-cert", "ssl-key") else ""


def _backup_channel(method: str, sst: OptionGroup, mysqld: OptionGroup) -> Finding:
    """The methods by a backup tool: encrypt, or in newer servers ssl-mode, decides."""
    encrypt = sst.get("encrypt") or mysqld.get("encrypt") or "0"
    mode = (sst.get("ssl-mode") or mysqld.get("ssl-mode") or "DISABLED").upper()
    if mysqld.is_on(CLUSTER_MODE):
        return ok(SST, f"encrypted by {CLUSTER_MODE}=ON")
    if encrypt == "4":
        return ok(SST, f"encrypted by {_ENCRYPT[encrypt]}")
    if encrypt in _ENCRYPT:
        return warning(SST, f"encrypted by {_ENCRYPT[encrypt]}", f"set encrypt=4 in [sst], or {_USE_TUNNEL}")
    if encrypt == "1":
        return warning(
            SST,
            "encrypted by the backup tool with one key for all (encrypt=1); nobody knows who is at the other end",
            f"set encrypt=4 in [sst], or {_USE_TUNNEL}",
        )
    if encrypt == "0" and mode != "DISABLED":
        return ok(SST, f"encrypted by socat with certificates (ssl-mode={mode})")
    return warning(SST, f"not encrypted: wsrep_sst_method={method} with encrypt={encrypt}", _USE_TUNNEL)
