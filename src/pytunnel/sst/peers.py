"""Whom each role expects at the other end, and whether our own certificate will pass there.

Donor and joiner come to the same answer by the same rule: what a joiner finds wrong with its own certificate is what
a donor would refuse it for.
"""

from __future__ import annotations

from cryptography import x509

from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.settings import SstSettings
from pytunnel.sst.tlsfiles import NameRule
from pytunnel.tls.credentials import Credentials
from pytunnel.tls.identity import ExpectedPeer, common_names, presented_names
from pytunnel.transport.names import Confirmed
from pytunnel.tunnel.securing import expected_at, other_names


async def expected_joiner(host: str, settings: SstSettings, credentials: Credentials) -> ExpectedPeer:
    """Whom a donor expects at `host`, the address that the joiner announced.

    A peer that presents our own certificate has our own key; where the nodes share one, that is all there is to check.
    """
    own = credentials.certificate
    if credentials.pinned is not None:
        return ExpectedPeer(certificates=(credentials.pinned,))
    if not (settings.tls.verify and settings.tls.verify_name):
        return ExpectedPeer()
    if settings.name_rule is NameRule.SHARED and not settings.tls.peer_names:
        return ExpectedPeer(tuple(common_names(own)), (own,))
    by_name = await expected_at(host, settings.tls.peer_names)
    if settings.name_rule is NameRule.SHOULD_CARRY:
        return ExpectedPeer(by_name.names, (own,))
    return by_name


def expected_donor(settings: SstSettings, credentials: Credentials) -> ExpectedPeer:
    """Whom a joiner admits: it knows no donor's name before, only what was configured."""
    if credentials.pinned is not None:
        return ExpectedPeer(certificates=(credentials.pinned,))
    return ExpectedPeer(settings.tls.peer_names)


async def check_own_name(host: str, settings: SstSettings, own: x509.Certificate) -> str | None:
    """Find out before the donor does whether our certificate carries `host`, the address that we announce.

    Returns a warning where only some donors would accept it. Raises SstError where none would.
    """
    if not (settings.tls.verify and settings.tls.verify_name) or settings.name_rule is NameRule.SHARED:
        return None
    # DNS is slow where it is down, and asked only where the certificate does not say everything itself.
    if ExpectedPeer(settings.tls.peer_names or (host,)).accepts(own):
        return None
    confirmed = Confirmed(()) if settings.tls.peer_names else await other_names(host)
    if confirmed.names and ExpectedPeer(confirmed.names).accepts(own):
        return None
    mismatch = (
        f"this node announces itself as {host}, but its certificate {settings.tls.certificate} says "
        f"{presented_names(own)}"
    )
    if not confirmed.answered:
        mismatch += f" (DNS did not answer, so other names of {host} are not known)"
    if settings.name_rule is NameRule.SHOULD_CARRY:
        return f"{mismatch}: only a donor with this same certificate will send to it"
    raise SstError(
        f"{mismatch}: no donor would send to it. Make a certificate for {host}, or set bind_address "
        "(or wsrep_node_address, wsrep_sst_receive_address) to the name in it",
        exit_code=ExitCode.BAD_SETTING,
    )
