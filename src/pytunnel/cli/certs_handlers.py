"""What the commands of `pytunnel certs` do, and how they tell of it."""

from __future__ import annotations

import argparse
import datetime
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from pytunnel.certs import rotation
from pytunnel.certs.access import check_access, find_reader, user_name
from pytunnel.certs.advice import advise
from pytunnel.certs.authority import read_authority, read_ca
from pytunnel.certs.bundling import bundle_pem, collect, collect_lists
from pytunnel.certs.checking import Announced, Subject, check_ca, check_certificate
from pytunnel.certs.errors import CertsError
from pytunnel.certs.findings import Finding, worst
from pytunnel.certs.making import Identity, issue, make_ca, make_key, make_self_signed, valid_for
from pytunnel.certs.names import Names, parse_names
from pytunnel.certs.showing import describe_file
from pytunnel.certs.storing import NewFile, write_files
from pytunnel.system import logs
from pytunnel.tls.credentials import describe_name, describe_subject, expiry_date, read_lists
from pytunnel.tls.identity import presented_names


def run_ca(arguments: argparse.Namespace) -> int:
    """Make a CA."""
    name = arguments.name or f"Galera CA {datetime.datetime.now(datetime.UTC):%Y-%m-%d} {secrets.token_hex(2)}"
    made = make_ca(name, valid_for(arguments.days), make_key(arguments.rsa))
    key = _store(made, arguments.out or "ca", combined=False, force=arguments.force)
    print(f"{key}: its key. Keep it away from the nodes: whoever has it can make certificates for any name")
    return 0


def run_node(arguments: argparse.Namespace) -> int:
    """Make a node's certificate that a CA issues."""
    names = parse_names(arguments.names, arguments.ip)
    ca = read_authority(arguments.ca, arguments.ca_key)
    return _store_node(issue(ca, names, valid_for(arguments.days), make_key(arguments.rsa)), names, arguments)


def run_self_signed(arguments: argparse.Namespace) -> int:
    """Make a node's certificate without a CA."""
    names = parse_names(arguments.names, arguments.ip)
    return _store_node(make_self_signed(names, valid_for(arguments.days), make_key(arguments.rsa)), names, arguments)


def _store_node(made: Identity, names: Names, arguments: argparse.Namespace) -> int:
    # A shell would take a star in a file's name for a pattern.
    out = arguments.out or names.common_name.replace("*", "wildcard")
    private = _store(made, out, combined=arguments.combined, force=arguments.force)
    what = "key and certificate" if arguments.combined else "its key"
    owner = user_name(private.stat().st_uid)
    advice = "; if the server runs as another, chown it" if private.stat().st_uid == os.geteuid() else ""
    print(f"{private}: {what}, readable by the user {owner} alone{advice}")
    return 0


def _store(made: Identity, out: str, *, combined: bool, force: bool) -> Path:
    """Write both files, tell of the certificate; returns the file that holds the key."""
    certificate = NewFile(Path(f"{out}.crt"), made.certificate_pem)
    if combined:
        private = NewFile(Path(f"{out}.pem"), made.combined_pem, private=True)
    else:
        private = NewFile(Path(f"{out}.key"), made.key_pem, private=True)
    write_files([private, certificate], force=force)
    print(f"{certificate.path}: {presented_names(made.certificate)}, valid until {expiry_date(made.certificate)}")
    return private.path


def run_bundle(arguments: argparse.Namespace) -> int:
    """Put certificates and revocation lists into one file."""
    certificates = collect(arguments.files, arguments.without)
    lists = collect_lists(arguments.files)
    write_files([NewFile(arguments.out, bundle_pem(certificates, lists))], force=arguments.force)
    print(f"{arguments.out}: {', '.join(map(describe_subject, certificates))}")
    if lists:
        print(f"{arguments.out}: revocation lists of {', '.join(describe_name(item.issuer) for item in lists)}")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """Tell what is in certificate files."""
    for path in arguments.files:
        for line in describe_file(path):
            print(logs.one_line(line))
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Say whether certificates will work; the exit code is the worst finding."""
    for option, value in (("--key", arguments.key), ("--name", arguments.name)):
        if value is not None and len(arguments.files) > 1:
            raise CertsError(f"{option} belongs to one certificate; give it with one FILE")
    trusted, findings = check_ca(arguments.ca)
    announced = None if arguments.name is None else _announced(arguments.name)
    if trusted:
        for path in arguments.files:
            findings += check_certificate(Subject(path, trusted, arguments.key, announced, read_lists(arguments.ca)))
    if arguments.user is not None:
        reader = find_reader(arguments.user)
        for path in filter(None, (arguments.ca, arguments.key, *arguments.files)):
            findings += check_access(path, reader)
    return _report(findings)


def _announced(name: str) -> Announced:
    """The name, with those that DNS has for it.

    Only this needs the tunnel's part of DNS: without it, every other command starts in two thirds of the time.
    """
    import trio

    from pytunnel.tunnel.securing import expected_at

    return Announced(name, trio.run(expected_at, name))


def run_rotate(arguments: argparse.Namespace) -> int:
    """Say how far a change of the CA has come, and what is next."""
    change = rotation.Change(
        old=read_ca(arguments.old),
        new=read_ca(arguments.new),
        bundles=[rotation.Bundle.read(path) for path in arguments.ca],
        nodes=[rotation.NodeFile.read(path) for path in arguments.files],
    )
    steps = rotation.plan(change)
    print(f"From {describe_subject(change.old)} to {describe_subject(change.new)}, without an outage:")
    for number, step in enumerate(steps, start=1):
        print(f"{number}. {step.progress.value}: {step.goal.value}")
        for command in advise(step, arguments.old, arguments.new):
            print(f"       {logs.one_line(command)}")
    print("A state transfer reads its files anew each time, a running pytunnel listen or connect when they change")
    print('("certificates renewed" in its log). Servers (ssl-ca and the like) read theirs at start: restart them one')
    print("by one before you begin the next step.")
    remaining = any(step.progress is rotation.Progress.NOW for step in steps)
    return max(_report([*rotation.doubts(change), *rotation.outages(change)]), int(remaining))


def _report(findings: Sequence[Finding]) -> int:
    for finding in findings:
        print(logs.one_line(str(finding)))
    return int(worst(findings))
