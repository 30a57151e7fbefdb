"""The names that a certificate is made for: what a person writes, and where each of them goes in the certificate.

The first name is the common name (CN), which Galera's own recipes and old clients look at; all of them are subject
alternative names (SAN), which everybody else looks at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509

from pytunnel.certs.errors import CertsError
from pytunnel.tls.identity import IPAddress, ascii_host, parse_address

LONGEST_COMMON_NAME = 64
"""Characters: ub-common-name of RFC 5280, appendix A."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Names:
    """`hosts` are in ASCII, as DNS has them."""

    common_name: str
    hosts: tuple[str, ...]
    addresses: tuple[IPAddress, ...]

    @property
    def subject(self) -> x509.Name:
        """The distinguished name: the CN alone."""
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.common_name)])

    @property
    def alternatives(self) -> x509.SubjectAlternativeName:
        """All the names as the certificate's extension."""
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in self.hosts]
        return x509.SubjectAlternativeName(names + [x509.IPAddress(address) for address in self.addresses])


def parse_names(words: Sequence[str], addresses: Iterable[str] = ()) -> Names:
    """The names of one node: `words` are host names or IP addresses, `addresses` are IP addresses alone.

    Raises CertsError that names the first one that a certificate can't carry.
    """
    found = [_parse_name(word) for word in words] + [_demand_address(text) for text in addresses]
    common = next((str(name) for name in found if len(str(name)) <= LONGEST_COMMON_NAME), None)
    if common is None:
        raise CertsError(
            f"{words[0]!r} is longer than {LONGEST_COMMON_NAME} characters, the most that a common name holds; "
            "give a shorter name of the node besides"
        )
    return Names(
        common,
        hosts=tuple(dict.fromkeys(name for name in found if isinstance(name, str))),
        addresses=tuple(dict.fromkeys(name for name in found if not isinstance(name, str))),
    )


def _parse_name(word: str) -> str | IPAddress:
    return parse_address(word) or _parse_host(word)


def _parse_host(word: str) -> str:
    """A host name, perhaps with `*` as its left-most label."""
    wildcard = word.startswith("*.")
    host = ascii_host(word.removeprefix("*."))
    if host is None or not all(map(_LABEL.fullmatch, host.split("."))):
        raise CertsError(
            f"{word!r} is no host name and no IP address; give the name that the node announces, without a port "
            "(node1.my.cluster, 10.0.0.1, fd00::1)"
        )
    if host.rpartition(".")[2].isdigit():
        raise CertsError(f"{word!r} is neither an IP address nor a host name, which never ends in a number alone")
    if wildcard and "." not in host:
        raise CertsError(f"{word!r} would stand for a whole top-level domain; nobody accepts it")
    return f"*.{host}" if wildcard else host


def _demand_address(text: str) -> IPAddress:
    address = parse_address(text)
    if address is None:
        raise CertsError(f"--ip {text!r} is no IP address; expected one like 10.0.0.1 or fd00::1")
    return address
