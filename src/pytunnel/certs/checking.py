"""Would the tunnel accept these certificates? Its own answer, and the classic mistakes in words.

Whether a chain is trusted, a key fits and a name matches is decided by pytunnel.tls, where the tunnel decides it too.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pytunnel.certs.findings import Finding, Level
from pytunnel.tls.credentials import (
    chain_end,
    check_dates,
    check_key,
    days_left,
    describe_name,
    describe_subject,
    expiry_date,
    has_pss_key,
    holds_key,
    key_warnings,
    read_certificates,
    read_key,
    read_lists,
    read_trusted,
)
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.identity import (
    MALFORMED,
    ExpectedPeer,
    alternatives,
    carries_name,
    common_names,
    parse_address,
    presented_names,
)
from pytunnel.tls.trust import EXPIRED, find_refusal
from pytunnel.tls.verification import explain

_NOT_YET_VALID = 9  # X509_V_ERR_*; check_dates says this and EXPIRED with the date
SOON = 30
"""Days before its end in which a certificate is warned of: enough to renew those of a cluster without haste."""


@dataclass(frozen=True, slots=True)
class Announced:
    """The name or address that a node announces, and whom the others then expect there (an address has names)."""

    name: str
    expected: ExpectedPeer


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked: a certificate file, the file of its key (None: in the same file, if anywhere), the CA's
    certificates and revocation lists, and the name that the node announces, if it is known."""

    path: Path
    trusted: Sequence[x509.Certificate]
    key: Path | None = None
    announced: Announced | None = None
    revoked: Sequence[x509.CertificateRevocationList] = ()


def check_ca(path: Path, now: datetime.datetime | None = None) -> tuple[list[x509.Certificate], list[Finding]]:
    """Read a CA file or directory, and say what is wrong with it; no certificates where it can't be used."""
    try:
        trusted = read_trusted(path)
        lists = read_lists(path)
        moment = now or datetime.datetime.now(datetime.UTC)
        findings = [*_ca_findings(path, trusted, moment), *_revocation_findings(path, lists, moment)]
        summary = "trusts " + ", ".join(describe_subject(certificate) for certificate in trusted)
        if lists:
            summary += "; with revocation lists of " + ", ".join(describe_name(item.issuer) for item in lists)
    except CredentialsError as error:
        return [], [Finding(Level.FAULT, str(path), str(error))]
    except MALFORMED as error:
        return [], [Finding(Level.FAULT, str(path), f"a certificate in it breaks the rules of X.509 ({error})")]
    return trusted, findings or [Finding(Level.OK, str(path), summary)]


def check_certificate(subject: Subject, now: datetime.datetime | None = None) -> list[Finding]:
    """All that is wrong with one certificate file; one finding that says OK where nothing is."""
    moment = now or datetime.datetime.now(datetime.UTC)
    place = str(subject.path)
    try:
        certificates = read_certificates(subject.path)
        findings = [Finding(level, place, text) for level, text in _mistakes(subject, certificates, moment)]
    except CredentialsError as error:
        return [Finding(Level.FAULT, place, str(error))]
    except MALFORMED as error:
        return [Finding(Level.FAULT, place, f"it breaks the rules of X.509 ({error}); make it anew")]
    return findings or [Finding(Level.OK, place, _summary(subject, certificates[0], moment))]


_Mistakes = Iterator[tuple[Level, str]]


def _mistakes(subject: Subject, certificates: Sequence[x509.Certificate], now: datetime.datetime) -> _Mistakes:
    own, *chain = certificates
    first = _certificate_to_come_first(certificates)
    if first is not None:
        yield (
            Level.FAULT,
            f"the bundle's order is wrong: it begins with the CA {describe_subject(own)}, but the first certificate "
            f"must be the node's own, {describe_subject(first)}, and its issuers come behind it",
        )
        return  # everything else would be said of the wrong certificate
    yield from _chain_mistakes(own, chain)
    yield from _key_mistakes(subject, own)
    yield from _date_mistakes(subject, own, now)
    yield from _trust_mistakes(subject, own, chain, now)
    yield from _name_mistakes(own)
    if subject.announced is not None:
        yield from _announced_mistakes(subject.announced, own)


def _certificate_to_come_first(certificates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The node's own certificate where the file begins with one of its issuers."""
    first, *rest = certificates
    # Two certificates of one key and one name, an old and a renewed one, look as if each had issued the other.
    issued = [item for item in rest if _has_issued(first, item) and not _has_issued(item, first)]
    last = (item for item in rest if not any(_has_issued(item, other) for other in certificates if other != item))
    return next(last, issued[0]) if issued else None


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, *MALFORMED):
        return False
    return True


def _chain_mistakes(own: x509.Certificate, chain: Sequence[x509.Certificate]) -> _Mistakes:
    for before, behind in zip((own, *chain), chain, strict=False):
        if not _has_issued(behind, before):
            yield (
                Level.WARNING,
                f"the certificates are not in order: {describe_subject(before)} is followed by "
                f"{describe_subject(behind)}, which is not its issuer; is this the bundle of all nodes?",
            )
            return


def _key_mistakes(subject: Subject, own: x509.Certificate) -> _Mistakes:
    combined = subject.key is None
    if combined and not holds_key(subject.path):
        if has_pss_key(own):
            yield Level.WARNING, "its key is an RSA-PSS key: other programs can use it, but no node that runs pytunnel"
        return
    key_file = subject.key or subject.path
    try:
        check_key(read_key(key_file, combined=combined), key_file, own, subject.path)
    except CredentialsError as error:
        yield Level.FAULT, str(error)
        return
    for warning in key_warnings(key_file):
        yield Level.WARNING, warning


def _date_mistakes(subject: Subject, own: x509.Certificate, now: datetime.datetime) -> _Mistakes:
    try:
        check_dates(own, subject.path, now)
    except CredentialsError as error:
        yield Level.FAULT, str(error)
        return
    if days_left(own, now) < SOON:
        yield Level.WARNING, f"it expires in {days_left(own, now)} days, on {expiry_date(own)}; renew it"


def _trust_mistakes(
    subject: Subject, own: x509.Certificate, chain: Sequence[x509.Certificate], now: datetime.datetime
) -> _Mistakes:
    refusal = find_refusal(own, chain, subject.trusted, subject.revoked)
    if own.subject == own.issuer and not _has_issued(own, own):
        level = Level.WARNING if refusal is None else Level.FAULT
        yield (
            level,
            f"its name {describe_subject(own)} is also the name of its CA, so programs take it for self-signed; "
            "make it with a common name of its own",
        )
    elif refusal is not None and not (refusal.depth == 0 and refusal.error in (_NOT_YET_VALID, EXPIRED)):
        yield Level.FAULT, explain(refusal)
    for item in chain:
        if days_left(item, now) < SOON and (refusal is None or refusal.certificate != item):
            yield Level.WARNING, chain_end(item, now)


def _name_mistakes(own: x509.Certificate) -> _Mistakes:
    san = alternatives(own)
    addresses = san.get_values_for_type(x509.IPAddress)
    if not common_names(own) and not san:
        yield Level.FAULT, "it carries no name at all, neither a CN nor a SAN, so no node can announce itself with it"
    for name in san.get_values_for_type(x509.DNSName):
        if parse_address(name) is not None:
            yield (
                Level.WARNING,
                f"its SAN has the address {name} as a DNS name, where no program looks for an address; "
                f"make it with --ip {name}",
            )
    for name in common_names(own):
        if parse_address(name) is not None and parse_address(name) not in addresses:
            yield (
                Level.WARNING,
                f"the address {name} is its CN, but it has no IP SAN: pytunnel accepts that, most other programs "
                f"don't; make it with --ip {name}",
            )


def _announced_mistakes(announced: Announced, own: x509.Certificate) -> _Mistakes:
    name, carried = announced.name, presented_names(own)
    is_address = parse_address(name) is not None
    if carries_name(own, name):
        return
    if announced.expected.accepts(own):
        yield (
            Level.WARNING,
            f"it carries {carried} and not {name}; it passes only as long as DNS leads from one to the other and back. "
            f"Make it with {'--ip ' if is_address else ''}{name} besides",
        )
    elif is_address:
        yield (
            Level.FAULT,
            f"a node that announces the address {name} can't use it: it carries {carried} and no IP SAN for {name}; "
            f"make it with --ip {name}",
        )
    else:
        yield (
            Level.FAULT,
            f"a node that announces {name} can't use it: it carries {carried}; make it for {name}, or announce the "
            "name in it",
        )


def _ca_findings(path: Path, trusted: Sequence[x509.Certificate], now: datetime.datetime) -> Iterator[Finding]:
    place = str(path)
    if path.is_file() and holds_key(path):
        yield Finding(Level.WARNING, place, "it holds a private key, which then lies on every node; keep it elsewhere")
    for certificate in trusted:
        try:
            check_dates(certificate, path, now)
        except CredentialsError as error:
            yield Finding(Level.WARNING, place, str(error))
        else:
            days = days_left(certificate, now)
            if days < SOON:
                name = describe_subject(certificate)
                yield Finding(Level.WARNING, place, f"{name} expires in {days} days, on {expiry_date(certificate)}")


def _revocation_findings(
    path: Path, lists: Sequence[x509.CertificateRevocationList], now: datetime.datetime
) -> Iterator[Finding]:
    for item in lists:
        if (sentence := outdated(item, now)) is not None:
            yield Finding(Level.FAULT, str(path), sentence)


def outdated(item: x509.CertificateRevocationList, now: datetime.datetime) -> str | None:
    """What is wrong with a revocation list whose time is over; None as long as it is not."""
    until = item.next_update_utc
    if until is None or until >= now:
        return None
    issuer = describe_name(item.issuer)
    return f"the revocation list of {issuer} ended on {until.date()}, so none of its certificates is accepted; renew it"


def _summary(subject: Subject, own: x509.Certificate, now: datetime.datetime) -> str:
    issuer = "self-signed" if own.subject == own.issuer else f"from {describe_name(own.issuer)}"
    key = "its key fits" if subject.key is not None or holds_key(subject.path) else "its key was not checked (--key)"
    left = f"valid until {expiry_date(own)} ({days_left(own, now)} days)"
    return f"{presented_names(own)}; {issuer}; {left}; {key}"
