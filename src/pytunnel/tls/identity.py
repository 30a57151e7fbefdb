"""Does a certificate carry a name that we accept?

A name matches a dNSName or iPAddress of the subject alternative names (RFC 6125, RFC 9525; by service-identity) or
the common name, which Galera's own recipes use and which needs code of ours. Matching is case-blind, a trailing dot
doesn't count, `*` stands for the whole left-most label only, IP addresses are compared as addresses.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from cryptography import x509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class ExpectedPeer:
    """Whom we accept: a peer whose certificate carries any of `names`.

    An empty `names` accepts every peer that the CA vouches for.
    """

    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " or ".join(self.names) if self.names else "any peer that the CA vouches for"

    def accepts(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate carries one of the names, or none is demanded."""
        return not self.names or any(carries_name(certificate, name) for name in self.names)


def carries_name(certificate: x509.Certificate, name: str) -> bool:
    """Whether a SAN or the CN of `certificate` is `name`, a host name or an IP address."""
    address = parse_address(name)
    if address is not None:
        return _san_has_address(certificate, address) or any(
            parse_address(cn) == address for cn in common_names(certificate)
        )
    return _san_has_host(certificate, name) or any(matches_host(cn, name) for cn in common_names(certificate))


def matches_host(pattern: str, host: str) -> bool:
    """Whether the host name is the one that `pattern`, a common name, stands for.

    `*.my.cluster` stands for one label below my.cluster; it needs two labels behind the star, so that nobody owns a
    whole top-level domain. Other stars are plain characters, which no host name holds. A name with a zero byte
    or another unprintable character matches nothing: such names exist only to deceive.
    """
    if not pattern.isprintable() or not host.isprintable():
        return False
    wanted, carried = _normal(host), _normal(pattern)
    if not wanted or not carried or parse_address(host) is not None:
        return False
    if wanted == carried:
        return "*" not in wanted
    label, _, parent = carried.partition(".")
    if label != "*" or "." not in parent or "*" in parent:
        return False
    first, _, rest = wanted.partition(".")
    return bool(first) and "*" not in first and rest == parent


def common_names(certificate: x509.Certificate) -> list[str]:
    """Every CN of the subject, as text."""
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return [str(attribute.value) for attribute in attributes]


def parse_address(text: str) -> IPAddress | None:
    """The IP address that `text` writes, with or without brackets; None for anything else."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def presented_names(certificate: x509.Certificate) -> str:
    """The names that a certificate carries, for an error: `CN=evil.my.cluster, DNS:…, IP:…`."""
    shown = [f"CN={cn}" for cn in common_names(certificate)]
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        san = None
    if san is not None:
        shown += [f"DNS:{name}" for name in san.get_values_for_type(x509.DNSName)]
        shown += [f"IP:{address}" for address in san.get_values_for_type(x509.IPAddress)]
    text = ", ".join(shown) or "no name at all"
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _normal(name: str) -> str:
    return name.removesuffix(".").casefold()


def _san_has_host(certificate: x509.Certificate, name: str) -> bool:
    try:
        verify_certificate_hostname(certificate, name.removesuffix("."))
    except (VerificationError, CertificateError, ValueError):
        return False
    return True


def _san_has_address(certificate: x509.Certificate, address: IPAddress) -> bool:
    try:
        verify_certificate_ip_address(certificate, str(address))
    except (VerificationError, CertificateError, ValueError):
        return False
    return True
