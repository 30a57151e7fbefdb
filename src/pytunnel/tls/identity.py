"""Does a certificate carry a name that we accept?

A name matches a dNSName or iPAddress of the subject alternative names (RFC 6125, RFC 9525; by service-identity) or
the common name, which Galera's own recipes use and which needs code of ours. Matching is case-blind, a trailing dot
doesn't count, `*` stands for the whole left-most label only, IP addresses are compared as addresses.

A certificate comes from a peer whom nobody has verified yet, and may break every rule of X.509: nothing here raises
because of what it holds. A name that can't be read is carried by nobody.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import idna
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, DNSPattern, verify_service_identity

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MALFORMED = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises at the first look at a part of a certificate that breaks X.509's rules."""

_LONGEST_NAME = 253  # RFC 1035, 2.3.4, in the dotted form
_LONGEST_LABEL = 63
_JUDGEMENTS = 64  # that are remembered: the same few peers connect again and again, and a certificate is slow to read


@dataclass(frozen=True, slots=True)
class ExpectedPeer:
    """Whom we accept: a peer whose certificate carries any of `names`, or is one of `certificates` itself.

    With neither, every peer that the CA vouches for.
    """

    names: tuple[str, ...] = ()
    certificates: tuple[x509.Certificate, ...] = ()

    def __str__(self) -> str:
        wanted = [*self.names, *(f"the certificate of {presented_names(each)}" for each in self.certificates)]
        return " or ".join(wanted) or "any peer that the CA vouches for"

    def accepts(self, certificate: x509.Certificate) -> bool:
        """Whether it is one of the certificates, carries one of the names, or nothing is demanded."""
        if not self.names and not self.certificates:
            return True
        return certificate in self.certificates or any(carries_name(certificate, name) for name in self.names)


@functools.lru_cache(maxsize=_JUDGEMENTS)
def carries_name(certificate: x509.Certificate, name: str) -> bool:
    """Whether a SAN or the CN of `certificate` is `name`, a host name or an IP address."""
    address = parse_address(name)
    if address is not None:
        return address in _alternative_addresses(certificate) or any(
            parse_address(cn) == address for cn in common_names(certificate)
        )
    return _san_has_host(certificate, name) or any(matches_host(cn, name) for cn in common_names(certificate))


def matches_host(pattern: str, host: str) -> bool:
    """Whether the host name is the one that `pattern`, a common name, stands for.

    `*.my.cluster` stands for one label below my.cluster; it needs two labels behind the star, so that nobody owns a
    whole top-level domain. Other stars are plain characters, which no host name holds. A name with a zero byte
    or another unprintable character matches nothing: such names exist only to deceive.
    """
    wanted = ascii_host(host)
    if wanted is None or "*" in wanted or parse_address(wanted) is not None:
        return False
    if not pattern.startswith("*."):
        return wanted == ascii_host(pattern)
    parent = ascii_host(pattern.removeprefix("*."))
    return parent is not None and "." in parent and wanted.partition(".")[2] == parent


def ascii_host(name: str) -> str | None:
    """The name as DNS has it: lower case, U-labels as A-labels, without a dot at its end; None if it can't be one.

    The mapping is that of trio's resolver (UTS 46): the name that is checked is the name that was dialled.
    """
    if not name.isprintable() or len(name) > _LONGEST_NAME + 1:
        return None
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except UnicodeError:
            return None
    name = name.removesuffix(".").lower()
    fits = len(name) <= _LONGEST_NAME and all(0 < len(label) <= _LONGEST_LABEL for label in name.split("."))
    return name if fits else None


def common_names(certificate: x509.Certificate) -> list[str]:
    """Every CN of the subject, as text."""
    try:
        attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except MALFORMED:
        return []
    return [str(attribute.value) for attribute in attributes]


def parse_address(text: str) -> IPAddress | None:
    """The IP address that `text` writes, with or without brackets; None for anything else.

    An IPv4 address inside IPv6 is the IPv4 address, and a zone (`%eth0`) is left out: it is known to one host alone.
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(address.packed)


def presented_names(certificate: x509.Certificate) -> str:
    """The names that a certificate carries, for an error: `CN=evil.my.cluster, DNS:…, IP:…`."""
    shown = [f"CN={cn}" for cn in common_names(certificate)]
    san = alternatives(certificate)
    shown += [f"DNS:{name}" for name in san.get_values_for_type(x509.DNSName)]
    shown += [f"IP:{address}" for address in san.get_values_for_type(x509.IPAddress)]
    text = ", ".join(shown) or "no name at all"
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def alternatives(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    """The subject alternative names; empty where there are none, or they can't be read."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *MALFORMED):
        return x509.SubjectAlternativeName([])


def _alternative_addresses(certificate: x509.Certificate) -> list[IPAddress | None]:
    return [parse_address(str(value)) for value in alternatives(certificate).get_values_for_type(x509.IPAddress)]


def _alternative_hosts(certificate: x509.Certificate) -> Iterator[DNSPattern]:
    """The dNSNames one by one: one that is no host name does not make the others worthless.

    service-identity takes blanks around a name away, which are no part of any.
    """
    for name in alternatives(certificate).get_values_for_type(x509.DNSName):
        if name == name.strip():
            with suppress(CertificateError):
                yield DNSPattern.from_bytes(name.removesuffix(".").encode())


def _san_has_host(certificate: x509.Certificate, name: str) -> bool:
    host = ascii_host(name)
    if host is None:
        return False
    try:
        verify_service_identity(list(_alternative_hosts(certificate)), [DNS_ID(host)], [])
    except (VerificationError, CertificateError, ValueError):
        return False
    return True
