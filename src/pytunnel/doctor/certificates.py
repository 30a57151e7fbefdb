"""The certificates of each place that uses some: does the key fit, does the chain hold, how long are they valid?"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from pytunnel.certs import findings as certs
from pytunnel.certs.checking import Subject, check_ca, check_certificate, outdated
from pytunnel.doctor.findings import Finding, from_error, from_sentence, ok, warning
from pytunnel.doctor.provider import ProviderOptions, read_provider_options
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.tls.credentials import describe_name, describe_subject, read_certificates, read_lists, read_revoked
from pytunnel.tls.errors import CredentialsError
from pytunnel.tls.settings import TlsSettings


@dataclass(frozen=True, slots=True)
class Use:
    """One place that uses certificates. `judged`: by `tls`'s own CA other nodes decide whether to accept ours."""

    title: str
    tls: TlsSettings
    judged: bool = True


def server_uses(mysqld: OptionGroup) -> list[Use]:
    """Where the server and Galera's provider use certificates."""
    client = TlsSettings(
        certificate=_path(mysqld.get("ssl-cert")),
        key=_path(mysqld.get("ssl-key")),
        ca=_path(mysqld.get("ssl-ca")),
        ca_directory=_path(mysqld.get("ssl-capath")),
        revoked=tuple(Path(value) for key in ("ssl-crl", "ssl-crlpath") if (value := mysqld.get(key))),
    )
    provider = _provider_files(read_provider_options(mysqld))
    uses = [Use("client", client, judged=False), Use("replication", provider, judged=provider.ca is not None)]
    return [use for use in uses if use.tls.certificate is not None]


def in_datadir(tls: TlsSettings, datadir: Path) -> TlsSettings:
    """The settings with complete paths: the server and its scripts have the datadir as working directory."""

    def placed(path: Path | None) -> Path | None:
        return None if path is None else datadir / path

    return replace(
        tls,
        certificate=placed(tls.certificate),
        key=placed(tls.key),
        ca=placed(tls.ca),
        ca_directory=placed(tls.ca_directory),
        revoked=tuple(datadir / path for path in tls.revoked),
        peer_certificate=placed(tls.peer_certificate),
        dh_parameters=placed(tls.dh_parameters),
    )


def merge(uses: Iterable[Use]) -> list[Use]:
    """Uses of the very same files as one, so that they are looked at and reported once."""
    merged: dict[tuple[object, ...], Use] = {}
    for use in uses:
        tls = use.tls
        files = (tls.certificate, tls.key, tls.ca, tls.ca_directory, tls.revoked, tls.peer_certificate)
        same = merged.get(files)
        if same is not None:
            use = Use(f"{same.title}, {use.title}", tls, judged=same.judged or use.judged)
        merged[files] = use
    return list(merged.values())


def examine_certificates(use: Use, now: datetime.datetime) -> list[Finding]:
    """All that the files of one use say about themselves and each other."""
    found: list[Finding] = []
    trusted: list[x509.Certificate] = []
    for place in (use.tls.ca, use.tls.ca_directory):
        if place is not None:
            here, told = check_ca(place, now)
            trusted += here
            found += _adopted(f"{use.title} CA", told)
    if use.tls.certificate is not None:
        found += _examine_own(use, trusted, now)
    if use.tls.peer_certificate is not None:
        subject = Subject(use.tls.peer_certificate, _from_file(use.tls.peer_certificate))
        found += _adopted(f"{use.title} peer", check_certificate(subject, now))
    return found + _examine_revocation(use, now)


def _examine_own(use: Use, trusted: Sequence[x509.Certificate], now: datetime.datetime) -> list[Finding]:
    assert use.tls.certificate is not None
    check = f"{use.title} certificate"
    own = _from_file(use.tls.certificate)
    found = []
    if use.judged and own and own[0].issuer == own[0].subject and own[0] not in trusted:
        text = f"{describe_subject(own[0])} is self-signed and not in this node's own CA file"
        found.append(warning(check, text, "add it there, and give all nodes the same file"))
        trusted = own
    judging, revoked = (trusted, _lists(use.tls)) if use.judged else (own, [])
    subject = Subject(use.tls.certificate, judging, use.tls.key, revoked=revoked)
    return found + _adopted(check, check_certificate(subject, now))


def _lists(tls: TlsSettings) -> list[x509.CertificateRevocationList]:
    """All revocation lists of one use; none where they can't be read, which others report."""
    places = [place for place in (tls.ca, tls.ca_directory) if place is not None]
    try:
        return [*read_revoked(tls.revoked), *(item for place in places for item in read_lists(place))]
    except CredentialsError:
        return []


def _examine_revocation(use: Use, now: datetime.datetime) -> list[Finding]:
    """A list that is out of date makes OpenSSL refuse everybody."""
    check = f"{use.title} CRL"
    try:
        lists = read_revoked(use.tls.revoked)
    except CredentialsError as error:
        return [from_error(check, error)]
    return [check_revocation_list(check, item, now) for item in lists]


def check_revocation_list(check: str, item: x509.CertificateRevocationList, now: datetime.datetime) -> Finding:
    """Whether a revocation list is the one of today."""
    sentence = outdated(item, now)
    if sentence is not None:
        return from_sentence(check, certs.Level.FAULT, sentence)
    until = item.next_update_utc
    return ok(check, f"of {describe_name(item.issuer)}, " + (f"until {until.date()}" if until else "without an end"))


def _adopted(check: str, told: Iterable[certs.Finding]) -> list[Finding]:
    return [
        ok(check, f"{item.place}: {item.text}")
        if item.level is certs.Level.OK
        else from_sentence(check, item.level, item.text if item.place in item.text else f"{item.place}: {item.text}")
        for item in told
    ]


def _from_file(path: Path) -> list[x509.Certificate]:
    """Its certificates; none where it can't be read, which check_certificate then reports."""
    try:
        return read_certificates(path)
    except CredentialsError:
        return []


def _provider_files(options: ProviderOptions) -> TlsSettings:
    if not options.uses_tls:
        return TlsSettings()
    return TlsSettings(certificate=_path(options.certificate), key=_path(options.key), ca=_path(options.ca))


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
