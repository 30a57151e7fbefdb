"""`--peer`: a real handshake with a node that listens, and what it presented. Nothing is sent behind the handshake."""

from __future__ import annotations

import datetime
from dataclasses import replace

import trio
from cryptography import x509

from pytunnel.certs.checking import SOON
from pytunnel.doctor.findings import Finding, from_error, ok, warning
from pytunnel.errors import PytunnelError
from pytunnel.sst.address import Address
from pytunnel.sst.peers import expected_joiner
from pytunnel.sst.settings import SstSettings
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials, days_left, describe_name, expiry_date
from pytunnel.tls.errors import PeerRejected, TlsError, TruncatedStream
from pytunnel.tls.identity import ExpectedPeer
from pytunnel.tls.session import Session
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.stream import TlsStream
from pytunnel.transport import tcp
from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.tunnel.securing import make_client
from pytunnel.tunnel.tunnel import Limits

TRUST, CERTIFICATE, TLS, ANSWER = "peer: trust", "peer: certificate", "peer: TLS", "peer: its answer"

_HANDSHAKE = Limits().handshake
_LISTEN = 2.0  # seconds; with TLS 1.3 a peer judges our certificate after our handshake is done


async def examine_peer(address: Address, settings: SstSettings, credentials: Credentials) -> list[Finding]:
    """Dial `address` as a donor does. A peer that we refuse is asked once more what it presents, and not believed."""
    place = TcpEndpoint(address.host, address.port)
    expected = await expected_joiner(address.host, settings, credentials)
    try:
        session, answer = await _shake_hands(place, settings, settings.tls, credentials, expected)
    except PeerRejected as refusal:
        told = [from_error(TRUST, refusal)]
        blind = replace(settings.tls, verify=False)
        try:
            session, answer = await _shake_hands(place, settings, blind, credentials, ExpectedPeer())
        except PytunnelError:
            return told
        return [*told, *describe(session), answer]
    except PytunnelError as error:
        return [from_error(TLS, error)]
    return [check_trust(settings, expected), *describe(session), answer]


def check_trust(settings: SstSettings, expected: ExpectedPeer) -> Finding:
    """The handshake went well: what that means depends on what was demanded."""
    if not settings.tls.verify:
        return warning(TRUST, "not verified: this node's settings trust everybody", "remove verify=0 from [sst]")
    return ok(TRUST, f"trusted; expected was {expected}")


def describe(session: Session, now: datetime.datetime | None = None) -> list[Finding]:
    """What was negotiated, and what the peer presented."""
    negotiated = ok(TLS, f"{session.version}, {session.cipher}")
    if session.peer is None:
        return [negotiated, warning(CERTIFICATE, "it presented none", "a state transfer needs one on both sides")]
    moment = now or datetime.datetime.now(datetime.UTC)
    return [negotiated, _describe_certificate(session.peer, session.peer_name, moment)]


def _describe_certificate(certificate: x509.Certificate, names: str, now: datetime.datetime) -> Finding:
    left = days_left(certificate, now)
    text = f"{names}; from {describe_name(certificate.issuer)}; valid until {expiry_date(certificate)} ({left} days)"
    return ok(CERTIFICATE, text) if left >= SOON else warning(CERTIFICATE, text, "renew it there")


async def _shake_hands(
    place: TcpEndpoint, settings: SstSettings, tls: TlsSettings, credentials: Credentials, expected: ExpectedPeer
) -> tuple[Session, Finding]:
    client = make_client(place, tls, make_context(tls, credentials), expected, _HANDSHAKE)
    stream, session = await client.secure(await tcp.dial(place, settings.sockets), str(place))
    try:
        return session, await _listen(stream)
    finally:
        await trio.aclose_forcefully(stream)


async def _listen(stream: TlsStream) -> Finding:
    """Wait for the alert of a peer that does not accept our certificate."""
    with trio.move_on_after(_LISTEN):
        try:
            await stream.receive_some(1)
        except (TruncatedStream, trio.BrokenResourceError):
            text = "it ended the connection behind the handshake, and may not have accepted this node's certificate"
            return warning(ANSWER, text, "see its log")
        except TlsError as error:
            return from_error(ANSWER, error)
    return ok(ANSWER, "it accepted this node's certificate")
