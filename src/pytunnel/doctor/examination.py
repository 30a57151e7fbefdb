"""The examination: every check, in the order in which a person would look.

Nothing is changed, and nothing listens for longer than a moment.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509

from pytunnel.certs.findings import Level
from pytunnel.doctor import channels, cluster, files, keyring, keys, names, programs
from pytunnel.doctor.certificates import Use, examine_certificates, in_datadir, merge, server_uses
from pytunnel.doctor.findings import Finding, fault, from_error, from_sentence, warning
from pytunnel.doctor.node import Node, OptionFiles, read_node
from pytunnel.doctor.peer import examine_peer
from pytunnel.doctor.port import examine_port
from pytunnel.sst.address import Address
from pytunnel.sst.directories import find_layout
from pytunnel.sst.errors import SstError
from pytunnel.sst.method import RSYNC_TUNNEL, Method
from pytunnel.sst.request import Role
from pytunnel.sst.settings import SstSettings, read_settings, refused_values
from pytunnel.sst.setup import files_of
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import load_credentials
from pytunnel.tls.errors import TlsError
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.options import SocketOptions

SETTINGS, TLS = "SST settings", "SST TLS"

_BY_RSYNC = ("rsync", "rsync_wan")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `user` None is the one that the option files name; `peer` is a node to shake hands with."""

    named: OptionFiles = field(default_factory=OptionFiles)
    roles: tuple[Role, ...] = (Role.JOINER, Role.DONOR)
    user: str | None = None
    peer: Address | None = None


async def examine(question: Question) -> list[Finding]:
    """Every finding about this node. Raises CertsError for a user that can't be used."""
    try:
        node = await read_node(question.named, question.user)
    except SstError as error:
        return [from_error(files.OPTION_FILES, error)]
    named = (question.named.defaults_file, question.named.defaults_extra_file)
    settings, refused = read_roles(node, question.roles)
    found = [
        *files.examine_option_files(named, node.sst.warnings, node.account),
        node.user_finding,
        *cluster.examine_membership(node.mysqld, node.version),
        *await _examine_address(node, question.roles, settings),
        *_examine_channels(node),
        *_examine_settings(node, settings),
        *refused,
        *_examine_files(node, question.roles, settings),
        *await _examine_name(node, settings),
        *_examine_programs(node),
        *_examine_directories(node),
        *_examine_keyring(node),
    ]
    if question.peer is not None:
        found += await _examine_peer(node, question.peer)
    return list(dict.fromkeys(found))


Settings = dict[Role, SstSettings]


def read_roles(node: Node, roles: Sequence[Role]) -> tuple[Settings, list[Finding]]:
    """The settings of each role, where our method is used, and the faults of those roles that have none."""
    settings: Settings = {}
    refused: list[Finding] = []
    for role in roles if node.method is not None else ():
        try:
            settings[role] = _read_settings(node, node.method or RSYNC_TUNNEL, role)
        except SstError as error:
            if str(error) not in map(str, refused_values(node.sst)):  # those are reported as keys
                refused.append(from_error(SETTINGS, error))
        except PermissionError as error:
            refused.append(warning(SETTINGS, f"{error.filename} can't be looked at", "run this with sudo"))
    return settings, refused


def _read_settings(node: Node, method: Method, role: Role) -> SstSettings:
    settings = read_settings(node.sst, files_of(node.call(role), method, node.sst, node.mysqld))
    tls = in_datadir(settings.tls, node.datadir)
    for file in files.files_of(tls):
        if files.is_special(file.path):  # before anybody opens it, as root
            raise SstError(f"{file.path} is neither a file nor a directory; expected a PEM file")
    return replace(settings, tls=tls)


async def _examine_address(node: Node, roles: Sequence[Role], settings: Settings) -> list[Finding]:
    others = cluster.members(node.mysqld)
    try:
        announced = cluster.find_announced(node.mysqld)
    except SstError as error:
        return [from_error(cluster.ADDRESS, error)]
    found = [cluster.check_announced(announced, others)]
    if announced is not None:
        found.append(await names.examine_dns(announced, one_host=cluster.is_one_host(others)))
        if Role.JOINER in roles:
            joiner = settings.get(Role.JOINER)
            sockets = joiner.sockets if joiner is not None else SocketOptions()
            web_socket = joiner.route.listen if joiner is not None else None
            place = announced.address if web_socket is None else Address(web_socket.server.host, web_socket.server.port)
            found.append(await examine_port(place, sockets, node.datadir, node.running))
    return found


def _examine_channels(node: Node) -> list[Finding]:
    stunnel = shutil.which("stunnel", path=node.search.path)
    return [
        channels.check_client_channel(node.mysqld, node.version),
        channels.check_replication_channel(node.mysqld),
        channels.check_ist_channel(node.mysqld),
        channels.check_sst_channel(node.method_name, node.sst, node.mysqld, has_stunnel=stunnel is not None),
    ]


def _examine_settings(node: Node, settings: Settings) -> list[Finding]:
    found = keys.check_keys(node.sst, node.mysqld) if node.method is not None else []
    for role, chosen in settings.items():
        found.append(keys.check_verification(chosen))
        if role is Role.JOINER:
            found += keys.check_legacy_donor(chosen)
        found += [from_sentence(keys.KEYS, Level.WARNING, note) for note in chosen.warnings]
    return found


def _examine_files(node: Node, roles: Sequence[Role], settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    now = datetime.datetime.now(datetime.UTC)
    for use in merge(_uses(node, roles, settings)):
        named = files.files_of(use.tls)
        here = files.examine_files(f"{use.title} files", named, node.account)
        if not any(files.hidden_from_us(file.path) or files.is_special(file.path) for file in named):
            here += examine_certificates(use, now)
        found += here
    for chosen in settings.values():
        if not any(files.hidden_from_us(file.path) for file in files.files_of(chosen.tls)):
            found += _try_out(chosen, found)
    return found


def _uses(node: Node, roles: Sequence[Role], settings: Settings) -> list[Use]:
    """Every place that uses certificates; of a role whose settings are refused, what the files' own keys name."""
    uses = [replace(use, tls=in_datadir(use.tls, node.datadir)) for use in server_uses(node.mysqld)]
    tls = {role: settings[role].tls if role in settings else _named_files(node, role) for role in roles}
    same = len(set(tls.values())) == 1
    for role, chosen in tls.items():
        if chosen.certificate is not None:
            judged = chosen.verify and (chosen.ca is not None or chosen.ca_directory is not None)
            uses.append(Use("SST" if same else f"SST {role.value}", chosen, judged))
    return list(dict.fromkeys(uses))


def _named_files(node: Node, role: Role) -> TlsSettings:
    """The files that a role's keys name, whatever else is wrong; the server's own methods have the same keys."""
    if node.method is None and "tcert" not in node.sst and "ssl-cert" not in node.sst:
        return TlsSettings()
    try:
        chosen = files_of(node.call(role), node.method or RSYNC_TUNNEL, node.sst, node.mysqld)
        return in_datadir(chosen.tls, node.datadir)
    except (SstError, PermissionError):
        return TlsSettings()


def _try_out(settings: SstSettings, told: Sequence[Finding]) -> list[Finding]:
    """Let OpenSSL have it all, as a transfer would; what the files are at fault for is told already."""
    try:
        credentials = load_credentials(settings.tls)
    except TlsError as error:
        return [] if any(finding.level is Level.FAULT for finding in told) else [from_error(TLS, error)]
    try:
        make_context(settings.tls, credentials)
    except TlsError as error:
        return [from_error(TLS, error)]
    return []


async def _examine_name(node: Node, settings: Settings) -> list[Finding]:
    joiner = settings.get(Role.JOINER)
    own = _own_certificate(joiner)
    try:
        announced = cluster.find_announced(node.mysqld)
    except SstError:
        return []  # told with the cluster
    if joiner is None or own is None or announced is None:
        return []
    return [await names.examine_name(announced, joiner, own)]


def _own_certificate(settings: SstSettings | None) -> x509.Certificate | None:
    if settings is None:
        return None
    try:
        return load_credentials(settings.tls).certificate
    except TlsError:
        return None  # told with the files


def _examine_programs(node: Node) -> list[Finding]:
    found = []
    if node.method is not None or node.method_name in _BY_RSYNC:
        found.append(programs.examine_rsync(node.search, node.account))
    if node.method is not None:
        found.append(programs.examine_option_reader(node.search))
    if node.method_name != "skip":
        found.append(programs.examine_method(node.method_name, node.search, node.account))
    return found


def _examine_directories(node: Node) -> list[Finding]:
    try:
        layout = find_layout(node.request, node.mysqld, node.sst)
    except SstError as error:
        return [from_error(keys.KEYS, error)]
    named = [
        files.NamedDirectory(layout.datadir, "datadir"),
        files.NamedDirectory(layout.data, "innodb-data-home-dir"),
        files.NamedDirectory(layout.redo, "innodb-log-group-home-dir"),
        files.NamedDirectory(layout.undo, "innodb-undo-directory"),
        files.NamedDirectory(layout.aria, "aria-log-dir-path"),
    ]
    if layout.binlog is not None:
        named.append(files.NamedDirectory(layout.binlog.base.parent, "log-bin's directory"))
    tmpdirs = [node.datadir / name for name in (node.mysqld.get("tmpdir") or "").split(":") if name]
    named += [files.NamedDirectory(path, "tmpdir") for path in tmpdirs[:1]]
    return [*files.examine_tmpdirs(tmpdirs, layout.datadir), *files.examine_directories(named, node.account)]


def _examine_keyring(node: Node) -> list[Finding]:
    if node.method is None and node.method_name not in _BY_RSYNC:
        return []
    found = keyring.check_keyring(node.mysqld)
    for path in keyring.key_files(node.mysqld):
        file = files.NamedFile(node.datadir / path, private=True)
        if not files.is_there(file.path, unknown=True):
            advice = "copy it from another node, or correct the option"
            found.append(fault(keyring.KEYRING, f"{file.path} does not exist", advice))
        told = files.examine_files(keyring.KEYRING, [file], node.account)
        found += [finding for finding in told if finding.level is not Level.OK]
    return found


async def _examine_peer(node: Node, peer: Address) -> list[Finding]:
    """We dial, so we are the donor."""
    try:
        settings = _read_settings(node, node.method or RSYNC_TUNNEL, Role.DONOR)
        credentials = load_credentials(settings.tls)
    except (SstError, TlsError, PermissionError) as error:
        return [from_error("peer", error)]
    return await examine_peer(peer, settings, credentials)
