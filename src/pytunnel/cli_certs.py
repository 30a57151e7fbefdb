"""`pytunnel certs`: words of database administrators in, files and plain sentences out."""

from __future__ import annotations

import argparse
import datetime
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import trio

from pytunnel import logs
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
from pytunnel.cli_command import Commands, add_command
from pytunnel.tls.credentials import describe_name, describe_subject, expiry_date, read_certificates, read_lists
from pytunnel.tls.identity import presented_names
from pytunnel.tunnel import expected_at

_CA_DAYS = 3650  # it is changed by a procedure (certs rotate), so rarely
_NODE_DAYS = 825
_SELF_SIGNED_DAYS = 3650  # each renewal goes through the bundles of all nodes

_SUMMARY = "make, show, check and change the certificates of a cluster"

_EXAMPLES = """\
example, a cluster with a CA:
    pytunnel certs ca                                                  # ca.crt and ca.key
    pytunnel certs node node1.my.cluster --ip 10.0.0.1                 # node1.my.cluster.crt and .key
    pytunnel certs verify --ca ca.crt --key node1.my.cluster.key node1.my.cluster.crt
"""

_CA_EXAMPLES = """\
examples:
    pytunnel certs ca                             # ca.crt and ca.key, valid for ten years
    pytunnel certs ca 'Shop databases' --out shop-ca --days 1825
"""

_NODE_EXAMPLES = """\
One run makes one certificate, for one node. All its names and addresses go into that certificate; the first name is
its common name (CN) and the name of its files. Give the name or address that the node announces
(wsrep_sst_receive_address, wsrep_node_address, bind_address).

examples:
    pytunnel certs node node1.my.cluster
    pytunnel certs node node1.my.cluster node1 --ip 10.0.0.1 --ip fd00::1 --ca my-ca.crt --ca-key my-ca.key
    pytunnel certs node node1.my.cluster --combined --out /etc/mysql/tls/node1      # node1.crt and node1.pem
"""

_SELF_SIGNED_EXAMPLES = """\
Make one for each node, and put the .crt files of all nodes into one bundle (pytunnel certs bundle).

examples:
    pytunnel certs self-signed node1.my.cluster --combined             # node1.my.cluster.crt and .pem
    pytunnel certs self-signed node2.my.cluster --ip 10.0.0.2 --rsa 2048
"""

_BUNDLE_EXAMPLES = """\
examples:
    pytunnel certs bundle node1.crt node2.crt node3.crt                # bundle.crt, for tca on all nodes
    pytunnel certs bundle bundle.crt node4.crt --out bundle.crt --force
    pytunnel certs bundle bundle.crt --without node1.crt --out bundle.crt --force
"""

_SHOW_EXAMPLES = """\
example:
    pytunnel certs show /etc/mysql/tls/node1.pem
"""

_VERIFY_EXAMPLES = """\
The answer is the tunnel's own: what is OK here is accepted by nodes that trust the same CA file.
Exit code: 0 all is well, 1 there are warnings, 2 a certificate would be refused or can't be used.

examples:
    pytunnel certs verify --ca bundle.crt node1.crt node2.crt node3.crt
    sudo pytunnel certs verify --ca ca.crt --key node1.key --name node1.my.cluster --user mysql node1.crt
"""

_ROTATE_EXAMPLES = """\
Give the CA files (bundles) and the certificates of all nodes, as far as they are at hand, and it says how far the
change has come, what to run next, and which nodes would refuse each other now.
Exit code: 0 the change is done (or nothing was given to check), 1 steps remain, 2 nodes refuse each other.

examples:
    pytunnel certs rotate --old ca.crt --new new-ca.crt
    pytunnel certs rotate --old ca.crt --new new-ca.crt --ca bundle.crt node1.crt node2.crt node3.crt
"""


def add_certs(commands: Commands) -> None:
    """Add `certs` and its own commands to the program's."""
    parser = add_command(commands, "certs", _SUMMARY, _EXAMPLES)
    own = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_ca(own)
    _add_node(own)
    _add_self_signed(own)
    _add_bundle(own)
    _add_show(own)
    _add_verify(own)
    _add_rotate(own)


def _add_ca(commands: Commands) -> None:
    parser = add_command(commands, "ca", "make a certification authority (CA)", _CA_EXAMPLES)
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="its name, any text (default: 'Galera CA' and the date)"
    )
    _add_making_options(parser, _CA_DAYS, "ca")
    parser.set_defaults(run=_run_ca)


def _add_node(commands: Commands) -> None:
    parser = add_command(commands, "node", "make the certificate of a node, issued by a CA", _NODE_EXAMPLES)
    _add_names(parser)
    parser.add_argument("--ca", type=Path, default=Path("ca.crt"), metavar="FILE", help="the CA (default ca.crt)")
    parser.add_argument("--ca-key", type=Path, default=Path("ca.key"), metavar="FILE", help="its key (default ca.key)")
    _add_making_options(parser, _NODE_DAYS, "the first NAME")
    _add_combined(parser)
    parser.set_defaults(run=_run_node)


def _add_self_signed(commands: Commands) -> None:
    parser = add_command(commands, "self-signed", "make a node's certificate without a CA", _SELF_SIGNED_EXAMPLES)
    _add_names(parser)
    _add_making_options(parser, _SELF_SIGNED_DAYS, "the first NAME")
    _add_combined(parser)
    parser.set_defaults(run=_run_self_signed)


def _add_bundle(commands: Commands) -> None:
    summary = "put the certificates of several files into one, which all nodes trust"
    parser = add_command(commands, "bundle", summary, _BUNDLE_EXAMPLES)
    files_help = "certificates and revocation lists; keys are left out"
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help=files_help)
    parser.add_argument(
        "--without", metavar="FILE", type=Path, action="append", default=[], help="leave out the certificates of FILE"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, default=Path("bundle.crt"), help="default bundle.crt")
    _add_force(parser)
    parser.set_defaults(run=_run_bundle)


def _add_show(commands: Commands) -> None:
    parser = add_command(commands, "show", "tell what is in a certificate file", _SHOW_EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.set_defaults(run=_run_show)


def _add_verify(commands: Commands) -> None:
    parser = add_command(commands, "verify", "say whether certificates will work, or why not", _VERIFY_EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="nodes' certificates")
    parser.add_argument("--ca", type=Path, required=True, metavar="FILE|DIR", help="what the nodes trust (tca)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key of FILE (default: in FILE, if anywhere)")
    parser.add_argument("--name", help="the name or address that the node announces")
    parser.add_argument("--user", help="the server's user, who must be able to read all these files (mysql)")
    parser.set_defaults(run=_run_verify)


def _add_rotate(commands: Commands) -> None:
    parser = add_command(commands, "rotate", "change the CA of a cluster without an outage", _ROTATE_EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, help="nodes' certificates")
    parser.add_argument("--old", type=Path, required=True, metavar="FILE", help="the CA that goes")
    parser.add_argument("--new", type=Path, required=True, metavar="FILE", help="the CA that comes")
    parser.add_argument(
        "--ca", type=Path, action="append", default=[], metavar="FILE", help="a node's CA file (repeatable)"
    )
    parser.set_defaults(run=_run_rotate)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="host names or IP addresses of the node")
    parser.add_argument(
        "--ip", metavar="ADDRESS", action="append", default=[], help="an IP address of the node (repeatable)"
    )


def _add_making_options(parser: argparse.ArgumentParser, days: int, out: str) -> None:
    parser.add_argument("--days", type=int, default=days, help=f"how long it is valid (default {days})")
    parser.add_argument("--rsa", type=int, metavar="BITS", help="an RSA key (default: ECDSA on P-256)")
    parser.add_argument("--out", metavar="PATH", help=f"the files' path without an ending (default: {out})")
    _add_force(parser)


def _add_combined(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--combined", action="store_true", help="key and certificate in one .pem, for tcert without tkey"
    )


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def _run_ca(arguments: argparse.Namespace) -> int:
    name = arguments.name or f"Galera CA {datetime.datetime.now(datetime.UTC):%Y-%m-%d} {secrets.token_hex(2)}"
    made = make_ca(name, valid_for(arguments.days), make_key(arguments.rsa))
    key = _store(made, arguments.out or "ca", combined=False, force=arguments.force)
    print(f"{key}: its key. Keep it away from the nodes: whoever has it can make certificates for any name")
    return 0


def _run_node(arguments: argparse.Namespace) -> int:
    names = parse_names(arguments.names, arguments.ip)
    ca = read_authority(arguments.ca, arguments.ca_key)
    return _store_node(issue(ca, names, valid_for(arguments.days), make_key(arguments.rsa)), names, arguments)


def _run_self_signed(arguments: argparse.Namespace) -> int:
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


def _run_bundle(arguments: argparse.Namespace) -> int:
    certificates = collect(arguments.files, arguments.without)
    lists = collect_lists(arguments.files)
    write_files([NewFile(arguments.out, bundle_pem(certificates, lists))], force=arguments.force)
    print(f"{arguments.out}: {', '.join(map(describe_subject, certificates))}")
    if lists:
        print(f"{arguments.out}: revocation lists of {', '.join(describe_name(item.issuer) for item in lists)}")
    return 0


def _run_show(arguments: argparse.Namespace) -> int:
    for path in arguments.files:
        for line in describe_file(path):
            print(logs.one_line(line))
    return 0


def _run_verify(arguments: argparse.Namespace) -> int:
    for option, value in (("--key", arguments.key), ("--name", arguments.name)):
        if value is not None and len(arguments.files) > 1:
            raise CertsError(f"{option} belongs to one certificate; give it with one FILE")
    trusted, findings = check_ca(arguments.ca)
    announced = None if arguments.name is None else Announced(arguments.name, trio.run(expected_at, arguments.name))
    if trusted:
        for path in arguments.files:
            findings += check_certificate(Subject(path, trusted, arguments.key, announced, read_lists(arguments.ca)))
    if arguments.user is not None:
        reader = find_reader(arguments.user)
        for path in filter(None, (arguments.ca, arguments.key, *arguments.files)):
            findings += check_access(path, reader)
    return _report(findings)


def _run_rotate(arguments: argparse.Namespace) -> int:
    change = rotation.Change(
        old=read_ca(arguments.old),
        new=read_ca(arguments.new),
        bundles=[rotation.Bundle(path, tuple(read_certificates(path, "CA file"))) for path in arguments.ca],
        nodes=[rotation.NodeFile.read(path) for path in arguments.files],
    )
    steps = rotation.plan(change)
    print(f"From {describe_subject(change.old)} to {describe_subject(change.new)}, without an outage:")
    for number, step in enumerate(steps, start=1):
        print(f"{number}. {step.progress.value}: {step.goal.value}")
        for command in advise(step, arguments.old, arguments.new):
            print(f"       {logs.one_line(command)}")
    print(
        "A state transfer reads its files anew each time. Servers (ssl-ca and the like) and a running pytunnel listen"
    )
    print("or connect read theirs at start: restart them one by one before you begin the next step.")
    remaining = any(step.progress is rotation.Progress.NOW for step in steps)
    return max(_report([*rotation.doubts(change), *rotation.outages(change)]), int(remaining))


def _report(findings: Sequence[Finding]) -> int:
    for finding in findings:
        print(logs.one_line(str(finding)))
    return int(worst(findings))
