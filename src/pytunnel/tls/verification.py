"""Decide inside the handshake whether the peer is the one we expect, and keep the reason when it isn't.

OpenSSL asks once for each certificate of the chain and takes only yes or no; a refused peer gets an alert, and no byte
of it is read. The reason for people stays in the Verification value that belongs to the connection.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from OpenSSL import SSL, crypto

from pytunnel.tls.credentials import describe_name, describe_subject, expiry_date
from pytunnel.tls.identity import MALFORMED, ExpectedPeer, presented_names
from pytunnel.tls.trust import Refusal

# The numbers are OpenSSL's X509_V_ERR_*, the words are for the person who has to mend it.
_REASONS = {
    3: "no revocation list (CRL) of its issuer is among ours; get it from the CA",
    7: "the signature on it is wrong",
    9: "it is not valid yet; are the clocks of both hosts right?",
    10: "it has expired; renew it",
    11: "the revocation list (CRL) of its issuer is not valid yet; are the clocks right?",
    12: "the revocation list (CRL) of its issuer has expired; get a new one from the CA",
    18: "it is self-signed and not in our CA file; add it there",
    19: "it comes from a CA that is not in our CA file; add that CA there",
    20: "its issuer is not in our CA file; add the issuer's certificate there",
    21: "its issuer is not in our CA file; add the issuer's certificate there",
    23: "it is revoked",
    24: "it is not allowed to issue certificates",
    25: "more CAs stand below it than its path length allows; let a CA nearer to it issue, or make it anew for more",
    26: (
        "it may not be used for this (key usage, extended key usage, nsCertType); "
        "make it for server and client authentication"
    ),
    34: "it has a critical extension that OpenSSL does not know; make it without that, or not critical",
    47: (
        "one of its names is not among those that its CA may issue for (name constraints); "
        "leave that name out, or take another CA"
    ),
    48: (
        "one of its names is among those that its CA may not issue for (name constraints); "
        "leave that name out, or take another CA"
    ),
    66: "its key is too short; 2048 bits is the least for RSA",
    67: "its key is too short; 2048 bits is the least for RSA",
    68: "its signature's digest is too weak; use SHA-256",
    76: "its key is of a kind that TLS does not use; make an RSA key, or one on the curve P-256",
    79: "it is not allowed to issue certificates",
}
_REVOKED = 23


@dataclass(slots=True)
class Verification:
    """One handshake's judgement. `place` is where the peer is, as errors name it; `refusal` is None while none fell."""

    place: str
    expected: ExpectedPeer
    refusal: str | None = None

    def judge(self, certificate: x509.Certificate, error: int, depth: int, ok: bool) -> bool:
        """Accept or refuse one certificate of the chain; depth 0 is the peer's own."""
        if not ok:
            self.refusal = self.refusal or f"{self.place} presented {explain(Refusal(certificate, error, depth))}"
            return False
        if depth == 0 and not self.expected.accepts(certificate):
            self.refusal = (
                f"{self.place} presented {presented_names(certificate)}, expected {self.expected} "
                f"(certificate from {describe_name(certificate.issuer)}, valid until {expiry_date(certificate)}); "
                "give --peer-name (sockopt: commonname=) if that is meant"
            )
            return False
        return True


def explain(refusal: Refusal) -> str:
    """The certificate and why it can't be trusted, in words."""
    reason = _REASONS.get(refusal.error, f"OpenSSL's verification error {refusal.error}")
    if refusal.error == _REVOKED:
        reason = f"{reason} (serial number {refusal.certificate.serial_number:X})"
    return f"{_described(refusal.certificate, refusal.depth)}, which can't be trusted: {reason}"


def demand_peer_certificate(context: SSL.Context) -> None:
    """Make every connection of `context` ask for the peer's certificate and judge it.

    The connection's Verification must be its app data.
    """
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _judge)


def _judge(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    verification = connection.get_app_data()
    if not isinstance(verification, Verification):
        return False
    try:
        return verification.judge(certificate.to_cryptography(), error, depth, bool(ok))
    except MALFORMED as problem:
        # An exception in OpenSSL's callback would come out of the handshake as no error that a handshake can have.
        verification.refusal = f"{verification.place} presented a certificate that can't be read ({problem})"
        return False


def _described(certificate: x509.Certificate, depth: int) -> str:
    if depth == 0:
        return presented_names(certificate)
    return f"a chain with {describe_subject(certificate)}"
