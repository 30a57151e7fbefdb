"""The node's name: what DNS says of it, and whether the node's certificate carries it."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from pytunnel.certs.findings import Level
from pytunnel.doctor.cluster import Announced, is_loopback
from pytunnel.doctor.findings import Finding, fault, from_error, from_sentence, ok, warning
from pytunnel.sst.errors import SstError
from pytunnel.sst.peers import check_own_name
from pytunnel.sst.settings import SstSettings
from pytunnel.sst.tlsfiles import NameRule
from pytunnel.tls.identity import carries_name, parse_address, presented_names
from pytunnel.transport.names import addresses_of, names_of

DNS, NAME = "DNS", "certificate's name"


async def examine_dns(announced: Announced, *, one_host: bool) -> Finding:
    """Ask the resolver about the announced address, as the donor and the joiner do."""
    host = announced.address.host
    if parse_address(host) is not None:
        return check_reverse(host, await names_of(host))
    return check_forward(announced, await addresses_of(host), one_host=one_host)


def check_forward(announced: Announced, addresses: Sequence[str], *, one_host: bool) -> Finding:
    """A name's addresses: the joiner listens at these."""
    host = announced.address.host
    if not addresses:
        return fault(
            DNS,
            f"{host} ({announced.source}) can't be resolved here",
            "add it to DNS, or to /etc/hosts on all nodes",
        )
    local = [address for address in addresses if is_loopback(address)]
    if local and not one_host:
        judge = fault if len(local) == len(addresses) else warning
        return judge(
            DNS,
            f"{host} is {' and '.join(local)} on this host, where a donor's connection never comes in",
            f"take {host} out of the line of {local[0]} in /etc/hosts, and give it the address that others reach",
        )
    return ok(DNS, f"{host} is {', '.join(addresses)}")


def check_reverse(address: str, names: Sequence[str]) -> Finding:
    """An address's names, confirmed in both directions: a certificate may carry these instead."""
    if names:
        return ok(DNS, f"{address} is {', '.join(names)}, confirmed in both directions")
    return ok(DNS, f"{address} has no name that leads back to it; certificates must carry the address itself")


async def examine_name(announced: Announced, settings: SstSettings, own: x509.Certificate) -> Finding:
    """Would donors accept our certificate at the announced address? The joiner's own check says it."""
    host = announced.address.host
    try:
        doubt = await check_own_name(host, settings, own)
    except SstError as error:
        return from_error(NAME, error)
    if doubt is not None:
        return from_sentence(NAME, Level.WARNING, f"{doubt}; make a certificate for {host}")
    return check_carried(host, settings, own)


def check_carried(host: str, settings: SstSettings, own: x509.Certificate) -> Finding:
    """By what the certificate passes, when it does."""
    names = presented_names(own)
    if not (settings.tls.verify and settings.tls.verify_name):
        return ok(NAME, f"not compared by these settings ({names})")
    if settings.name_rule is NameRule.SHARED:
        return ok(NAME, f"all nodes share this certificate ({names}), so its name need not be {host}")
    if settings.tls.peer_names:
        return ok(NAME, f"{names}; sockopt's commonname is expected instead of {host}")
    if carries_name(own, host):
        return ok(NAME, f"{names}, and the node announces {host}")
    return warning(
        NAME,
        f"{names}, but the node announces {host}: it passes only as long as DNS leads from one to the other and back",
        f"make a certificate that carries {host} itself",
    )
