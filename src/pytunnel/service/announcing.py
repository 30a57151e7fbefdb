"""What a tunnel says of itself in the log when it is set up."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pytunnel.service.configuration import TunnelPlan
from pytunnel.tls.context import Side
from pytunnel.tls.credentials import Credentials, describe_subject, expiry_date
from pytunnel.tls.identity import ExpectedPeer, parse_address
from pytunnel.transport.endpoint import Endpoint, ExecEndpoint, TcpEndpoint, WebSocketEndpoint
from pytunnel.tunnel.http_connect import AllowedTargets

log = logging.getLogger(__name__)


def log_set_up(plan: TunnelPlan, credentials: Credentials, addresses: Sequence[str]) -> None:
    """Write what is accepted where, and who we are; warn of what is doubtful. `addresses` are those that are bound."""
    for note in (*credentials.warnings, *plan.notes):
        log.warning("%s", note)
    if not plan.tls.verify:
        log.warning("peers are NOT verified (--no-verify or verify=0): anyone on the path can read and change the data")
    if plan.side is Side.CLIENT:
        for address in filter(_is_open, addresses):
            log.warning("%s can be reached from other hosts: whoever is there can use our certificate", address)
    tls_in = plan.side is Side.SERVER
    log.info(
        "accepting %s at %s, carrying it %s to %s",
        _accepted(plan),
        ", ".join(addresses) or plan.source,
        "in plain" if tls_in else "inside TLS",
        plan.target,
    )
    log.info(
        "certificate %s from %s, valid until %s; CA %s (%d certificates); peers: %s; TLS %s or later",
        describe_subject(credentials.certificate),
        plan.tls.certificate,
        expiry_date(credentials.certificate),
        plan.tls.ca or "none",
        len(credentials.trusted),
        _expected(plan),
        plan.tls.minimum,
    )


def _accepted(plan: TunnelPlan) -> str:
    if plan.side is Side.CLIENT:
        return "plain connections"
    return f"TLS in WebSockets ({plan.source.path})" if isinstance(plan.source, WebSocketEndpoint) else "TLS"


def _expected(plan: TunnelPlan) -> str:
    if not plan.tls.verify:
        return "anyone"
    if plan.side is Side.CLIENT and not plan.tls.peer_names and isinstance(plan.target, TcpEndpoint):
        return plan.target.host
    if isinstance(plan.target, AllowedTargets):
        return "whoever is asked for"
    return str(ExpectedPeer(plan.tls.peer_names))


def shown(place: Endpoint | AllowedTargets) -> str:
    """A place as it may be told: of a program only its name, for its arguments may hold a password."""
    return f"exec:{place.argv[0]}" if isinstance(place, ExecEndpoint) else str(place)


def _is_open(address: str) -> bool:
    host = parse_address(address.rpartition(":")[0])
    return host is not None and not host.is_loopback
