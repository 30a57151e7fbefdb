"""socat's address options, as `sockopt` and `--sockopt` take them: read the words, apply them to our settings.

The words and aliases are socat 1.7.4's, and those of its man page. Of two words that contradict each other, socat
takes now the first and now the last; here that is an error.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pytunnel.errors import PytunnelError
from pytunnel.sockopt.syntax import read_flag, read_integer, read_seconds, split_words
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.options import IPNetwork, Retry, SocketOptions

FOREVER = sys.maxsize  # the attempts of a Retry that never gives up


class SockoptError(PytunnelError):
    """A sockopt text that can't be read, or asks for what pytunnel doesn't do."""

    exit_code = 22  # EINVAL


@dataclass(frozen=True, slots=True)
class SockOpt:
    """What a sockopt text asks for; None where it doesn't say.

    The fields are those of TlsSettings and SocketOptions. `notes` are sentences for the log: what was asked for and is
    done otherwise.
    """

    verify: bool | None = None
    peer_name: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    ciphers: str | None = None
    minimum: str | None = None
    maximum: str | None = None
    dh_parameters: Path | None = None
    server_name: str | None = None
    family: socket.AddressFamily | None = None
    bind_host: str | None = None
    bind_port: int | None = None
    reuse_address: bool | None = None
    no_delay: bool | None = None
    keep_alive: bool | None = None
    keep_idle: int | None = None
    keep_interval: int | None = None
    keep_count: int | None = None
    send_buffer: int | None = None
    receive_buffer: int | None = None
    connect_timeout: float | None = None
    retries: int | None = None
    forever: bool | None = None
    retry_interval: float | None = None
    backlog: int | None = None
    allowed_peers: tuple[IPNetwork, ...] | None = None
    notes: tuple[str, ...] = ()


def parse_sockopt(text: str) -> SockOpt:
    """The meaning of socat's words in `text`, separated by commas; empty words (a leading comma) are allowed.

    Raises SockoptError, naming the word: unknown, without meaning here, with a bad value, or contradicting another.
    """
    merged = SockOpt()
    set_by: dict[str, str] = {}
    for name, value in _words_of(text):
        asked = _read_word(name, value)
        changes: dict[str, Any] = {}
        for field in fields(SockOpt):
            new, old = getattr(asked, field.name), getattr(merged, field.name)
            if new is None or new == old or field.name == "notes":
                continue
            if old is not None:
                raise SockoptError(f"sockopt: {name} contradicts {set_by[field.name]} before it; give one of them")
            changes[field.name] = new
            set_by[field.name] = name
        notes = tuple(dict.fromkeys(merged.notes + asked.notes))
        merged = replace(merged, **changes, notes=notes)
    _check_versions(merged.minimum, merged.maximum)
    _check_family(merged)
    return _check_peer_name(merged)


def apply_to_tls(asked: SockOpt, settings: TlsSettings) -> TlsSettings:
    """`settings` with what `asked` says about TLS in its place.

    Raises SockoptError when the two together ask for no TLS version at all.
    """
    merged = replace(
        settings,
        verify=settings.verify if asked.verify is None else asked.verify,
        peer_names=(asked.peer_name,) if asked.peer_name else settings.peer_names,
        # A certificate given here brings its own key: in its file, or named beside it.
        key=asked.key or (None if asked.certificate else settings.key),
        certificate=asked.certificate or settings.certificate,
        ca=asked.ca or settings.ca,
        ciphers=asked.ciphers or settings.ciphers,
        minimum=asked.minimum or settings.minimum,
        maximum=asked.maximum or settings.maximum,
        dh_parameters=asked.dh_parameters or settings.dh_parameters,
        server_name=settings.server_name if asked.server_name is None else asked.server_name,
    )
    _check_versions(merged.minimum, merged.maximum)
    return merged


def apply_to_sockets(asked: SockOpt, options: SocketOptions) -> SocketOptions:
    """`options` with what `asked` says about sockets in its place."""
    same_name = {field.name for field in fields(SocketOptions)} & {field.name for field in fields(SockOpt)}
    changes: dict[str, Any] = {name: value for name in same_name if (value := getattr(asked, name)) is not None}
    retry = options.retry
    if asked.retries is not None:
        retry = replace(retry, attempts=asked.retries)
    if asked.retry_interval is not None:
        retry = replace(retry, interval=asked.retry_interval)
    if asked.forever:
        retry = Retry(attempts=FOREVER, interval=retry.interval)
    return replace(options, **changes, retry=retry)


def _words_of(text: str) -> list[tuple[str, str | None]]:
    try:
        return list(split_words(text))
    except ValueError as error:
        raise SockoptError(f"sockopt: {error}") from error


def _check_versions(minimum: str | None, maximum: str | None) -> None:
    if minimum and maximum and minimum > maximum:
        raise SockoptError(
            f"sockopt: TLS {minimum} or later and TLS {maximum} or earlier leave no version; change one of them"
        )


def _check_family(asked: SockOpt) -> None:
    """A literal address of the other family would only fail when the socket is bound, or let no peer in at all."""
    version = {socket.AF_INET: 4, socket.AF_INET6: 6}.get(asked.family or socket.AF_UNSPEC)
    if version is None:
        return
    bound = _ip_address(asked.bind_host or "")
    if bound is not None and bound.version != version:
        raise SockoptError(f"sockopt: bind={bound} is no IPv{version} address, but pf asks for IPv{version}")
    for network in asked.allowed_peers or ():
        if network.version != version:
            raise SockoptError(f"sockopt: range={network} holds no IPv{version} address, but pf asks for IPv{version}")


def _check_peer_name(asked: SockOpt) -> SockOpt:
    if asked.verify is False and asked.peer_name:
        note = f"sockopt: commonname={asked.peer_name!r} is not checked, because verify=0 checks nothing"
        return replace(asked, notes=(*asked.notes, note))
    if asked.verify is not False and asked.peer_name == "":
        raise SockoptError(
            "sockopt: an empty commonname accepts a peer of any name in socat; pytunnel always checks it: "
            "name the peer, or give verify=0 to check nothing at all"
        )
    return asked


# Values. Each reader raises ValueError with the words that follow "expected".


def _text(text: str) -> str:
    if not text:
        raise ValueError("a value after =")
    return text


def _path(text: str) -> Path:
    return Path(_text(text))


def _family(text: str) -> SockOpt:
    names = {"ip4": 4, "ipv4": 4, "inet": 4, "inet4": 4, "ip6": 6, "ipv6": 6, "inet6": 6}
    version = names.get(text.lower())
    if version is None:
        try:
            version = {socket.AF_INET: 4, socket.AF_INET6: 6}.get(socket.AddressFamily(read_integer(text, 0)))
        except ValueError:
            version = None
    if version is None:
        raise ValueError("ip4 or ip6")
    return SockOpt(family=socket.AF_INET if version == 4 else socket.AF_INET6)


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _bind(text: str) -> SockOpt:
    expected = "an address: HOST, HOST:PORT, :PORT or [IPv6]:PORT, with the port as a number"
    if isinstance(_ip_address(text), ipaddress.IPv6Address):
        return SockOpt(bind_host=text)
    parts = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]\s]*))(?::([0-9]+))?", text, re.ASCII)
    if parts is None or not text:
        raise ValueError(expected)
    literal, host, port = parts.groups()
    if literal is not None and not isinstance(_ip_address(literal), ipaddress.IPv6Address):
        raise ValueError(expected)
    return SockOpt(bind_host=literal or host or None, bind_port=read_integer(port, 0, 65535) if port else None)


def _range(text: str) -> SockOpt:
    parts = re.fullmatch(r"\[([^\[\]/]+)\]/([0-9]+)|([0-9.]+)[/:]([0-9.]+)", text, re.ASCII)
    try:
        if parts is None:
            raise ValueError
        host6, bits6, host4, mask4 = parts.groups()
        network: IPNetwork
        if host6:
            network = ipaddress.IPv6Network(f"{host6}/{bits6}", strict=False)
        else:
            network = ipaddress.IPv4Network(f"{host4}/{mask4}", strict=False)
    except ValueError as error:
        raise ValueError("a network: 10.0.0.0/8, 10.0.0.0:255.0.0.0 or [fd00::]/8") from error
    return SockOpt(allowed_peers=(network,))


# None: older than pytunnel speaks.
_VERSIONS = {
    "ssl2": None,
    "ssl3": None,
    "tls1": None,
    "tls1.0": None,
    "tls1.1": None,
    "tls1.2": "1.2",
    "tls1.3": "1.3",
}
_TOO_OLD = "TLS1.2 or TLS1.3: pytunnel speaks TLS 1.2 and later"


def _version(text: str) -> str | None:
    name = re.sub("^(ssl|tls)v", r"\1", text.lower())
    if name not in _VERSIONS:
        raise ValueError("TLS1.2 or TLS1.3")
    return _VERSIONS[name]


def _minimum(text: str) -> SockOpt:
    version = _version(text)
    if version is not None:
        return SockOpt(minimum=version)
    note = f"sockopt: the minimum {text} is raised to TLS1.2: pytunnel speaks TLS 1.2 and later"
    return SockOpt(minimum="1.2", notes=(note,))


def _maximum(text: str) -> SockOpt:
    version = _version(text)
    if version is None:
        raise ValueError(_TOO_OLD)
    return SockOpt(maximum=version)


def _method(text: str) -> SockOpt:
    if text.lower() in ("ssl23", "sslv23", "tls"):  # the best that both ends speak: our default
        return SockOpt()
    version = _version(text)
    if version is None:
        raise ValueError(_TOO_OLD)
    return SockOpt(minimum=version, maximum=version)


def _compress(text: str) -> SockOpt:
    if text.lower() != "none":
        raise ValueError("none: compression before encryption gives secrets away by their length (CRIME)")
    return SockOpt()


def _fips(text: str) -> SockOpt:
    if read_flag(text):
        raise ValueError(
            "0: a program can't switch FIPS mode on by itself; enable it in the system's OpenSSL configuration "
            "(fips-mode-setup, or the fips provider in openssl.cnf) and remove the word"
        )
    return SockOpt()


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of socat's: its names (the first one is used in messages), its reader, its value when it has none."""

    names: tuple[str, ...]
    read: Callable[[str], SockOpt]
    alone: str | None = None


_WORDS = (
    _Word(("verify", "openssl-verify"), lambda text: SockOpt(verify=read_flag(text)), alone="1"),
    _Word(
        ("cipher", "ciphers", "cipherlist", "openssl-cipherlist"),
        lambda text: SockOpt(ciphers=_text(text)),
    ),
    _Word(("commonname", "cn", "openssl-commonname"), lambda text: SockOpt(peer_name=text)),
    _Word(("cafile", "openssl-cafile"), lambda text: SockOpt(ca=_path(text))),
    _Word(("capath", "openssl-capath"), lambda text: SockOpt(ca=_path(text))),
    _Word(("cert", "certificate", "openssl-certificate"), lambda text: SockOpt(certificate=_path(text))),
    _Word(("key", "openssl-key"), lambda text: SockOpt(key=_path(text))),
    _Word(("method", "openssl-method"), _method),
    _Word(("openssl-min-proto-version", "min-proto-version", "min-version"), _minimum),
    _Word(("openssl-max-proto-version", "max-proto-version", "max-version"), _maximum),
    _Word(
        ("no-sni", "nosni", "openssl-no-sni"),
        lambda text: SockOpt(server_name="" if read_flag(text) else None),
        alone="1",
    ),
    _Word(("snihost", "openssl-snihost"), lambda text: SockOpt(server_name=_text(text))),
    _Word(
        ("dhparam", "dhparams", "dh", "openssl-dhparam", "openssl-dhparams"),
        lambda text: SockOpt(dh_parameters=_path(text)),
    ),
    _Word(("compress", "openssl-compress"), _compress),
    _Word(("fips", "openssl-fips"), _fips, alone="1"),
    _Word(("pf", "protocol-family"), _family),
    _Word(("bind",), _bind),
    _Word(("reuseaddr", "so-reuseaddr"), lambda text: SockOpt(reuse_address=read_flag(text)), alone="1"),
    _Word(("nodelay", "tcp-nodelay"), lambda text: SockOpt(no_delay=read_flag(text)), alone="1"),
    _Word(("keepalive", "so-keepalive"), lambda text: SockOpt(keep_alive=read_flag(text)), alone="1"),
    # The upper limits are those of Linux.
    _Word(("keepidle", "tcp-keepidle"), lambda text: SockOpt(keep_idle=read_integer(text, 1, 32767))),
    _Word(("keepintvl", "tcp-keepintvl"), lambda text: SockOpt(keep_interval=read_integer(text, 1, 32767))),
    _Word(("keepcnt", "tcp-keepcnt"), lambda text: SockOpt(keep_count=read_integer(text, 1, 127))),
    _Word(("sndbuf", "so-sndbuf"), lambda text: SockOpt(send_buffer=read_integer(text, 1))),
    _Word(("rcvbuf", "so-rcvbuf"), lambda text: SockOpt(receive_buffer=read_integer(text, 1))),
    _Word(("connect-timeout",), lambda text: SockOpt(connect_timeout=read_seconds(text, 0.001))),
    _Word(("retry",), lambda text: SockOpt(retries=read_integer(text, 0))),
    _Word(("forever",), lambda text: SockOpt(forever=read_flag(text)), alone="1"),
    _Word(("interval", "intervall"), lambda text: SockOpt(retry_interval=read_seconds(text, 0))),
    _Word(("backlog",), lambda text: SockOpt(backlog=read_integer(text, 0))),
    _Word(("range",), _range),
)
_BY_NAME = {name: word for word in _WORDS for name in word.names}

# What to do instead of words that people do write in socat's addresses.
_INSTEAD = {
    "fork": "pytunnel serves many connections at once by itself; remove it",
    "max-children": "--max-connections limits the connections",
    "sourceport": "bind=:PORT sets the source port",
    "sp": "bind=:PORT sets the source port",
    "tcpwrap": "range=NETWORK limits who may connect",
    "ipv6only": "pf=ip6 is IPv6 alone",
    "ipv6-v6only": "pf=ip6 is IPv6 alone",
    "v6only": "pf=ip6 is IPv6 alone",
}


def _read_word(name: str, value: str | None) -> SockOpt:
    word = _BY_NAME.get(name.lower())
    if word is None:
        raise SockoptError(f"sockopt: the word {name!r} has no meaning here; {_advice(name.lower())}")
    text = word.alone if value is None else value
    if text is None:
        raise SockoptError(f"sockopt: {name} needs a value, such as {name}=...")
    try:
        return word.read(text)
    except ValueError as error:
        shown = name if value is None else f"{name}={value!r}"
        raise SockoptError(f"sockopt: {shown} is not possible; expected {error}") from error


def _advice(name: str) -> str:
    if name in _INSTEAD:
        return _INSTEAD[name]
    near = difflib.get_close_matches(name, _BY_NAME, n=3)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"pytunnel takes {', '.join(word.names[0] for word in _WORDS)}"
