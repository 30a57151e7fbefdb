"""Where the joiner is: the address as the server writes it, and the ready line that hands it to the donor."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.rsync import Secret

DEFAULT_PORT = 4444

_FORMS = "HOST, HOST:PORT or [IPV6]:PORT, each with /MODULE if need be"
_HOST = r"\[(?P<literal>[^\]]*)\]|(?P<host>[^:/\[\]]+)"
_ADDRESS = re.compile(rf"(?:{_HOST})(?::(?P<port>[0-9]+))?(?:/(?P<path>.*))?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
# Another character in the ready line makes the server refuse the line, and with it the whole transfer.
_ALLOWED = re.compile(r"[A-Za-z0-9_:/.@\[\]-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A joiner's address; `host` has no brackets."""

    host: str
    port: int = DEFAULT_PORT
    module: str | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """The value of `--address`: HOST[:PORT][/MODULE[/LSN[/VERSION]]]; the last two are for other methods.

    Raises SstError (bad setting).
    """
    if "@" in text:  # what stands before it may be a secret: not shown
        raise _refusal("the address that the server passed holds an @", _FORMS)
    if text and not _ALLOWED.fullmatch(text):
        raise _refusal(
            f"the address {text!r}", "letters, digits and _ : / . [ ] - alone, or the server can't pass it on"
        )
    host_part, _, path = text.partition("/")
    if _is_ipv6(host_part):  # without brackets there is no room for a port
        return _with_path(Address(host_part), text, path)
    parts = _ADDRESS.fullmatch(text)
    if parts is None or (parts["literal"] is not None and not _is_ipv6(parts["literal"])):
        raise _refusal(f"the address {text!r}", _FORMS)
    port = parts["port"] or str(DEFAULT_PORT)
    if not (len(port) <= 5 and 1 <= int(port) <= 65535):
        raise _refusal(f"the port {port} of the address {text!r}", "a port from 1 to 65535")
    return _with_path(Address(parts["literal"] or parts["host"], int(port)), text, parts["path"] or "")


def _with_path(address: Address, text: str, path: str) -> Address:
    names = path.split("/") if path else []
    if len(names) > 3 or not all(_NAME.fullmatch(name) for name in names):
        raise _refusal(f"the address {text!r}", _FORMS)
    return Address(address.host, address.port, names[0] if names else None)


def format_ready(address: Address, secret: Secret | None = None) -> str:
    """The line that tells the server that everything listens: `ready [USER:SECRET@]HOST:PORT/MODULE`.

    Raises SstError for an address that the server would refuse.
    """
    if secret is not None and not (_NAME.fullmatch(secret.user) and _NAME.fullmatch(secret.password)):
        raise _refusal("the transfer's secret", "letters, digits and _ . - alone")
    credentials = f"{secret.user}:{secret.password}@" if secret is not None else ""
    place = f"{address}/{address.module}" if address.module else str(address)
    if parse_address(place) != Address(address.host, address.port, address.module):
        raise _refusal(f"the address {place!r}", _FORMS)
    return f"ready {credentials}{place}"


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def _refusal(what: str, expected: str) -> SstError:
    return SstError(
        f"{what} can't be used; expected {expected}. It comes from wsrep_sst_receive_address or wsrep_node_address",
        exit_code=ExitCode.BAD_SETTING,
    )
