"""`pytunnel certs`: its commands, in the words of database administrators."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytunnel.cli.command import Commands, add_command, lazily

_HANDLERS = "pytunnel.cli.certs_handlers"

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
    parser.set_defaults(run=lazily(_HANDLERS, "run_ca"))


def _add_node(commands: Commands) -> None:
    parser = add_command(commands, "node", "make the certificate of a node, issued by a CA", _NODE_EXAMPLES)
    _add_names(parser)
    parser.add_argument("--ca", type=Path, default=Path("ca.crt"), metavar="FILE", help="the CA (default ca.crt)")
    parser.add_argument("--ca-key", type=Path, default=Path("ca.key"), metavar="FILE", help="its key (default ca.key)")
    _add_making_options(parser, _NODE_DAYS, "the first NAME")
    _add_combined(parser)
    parser.set_defaults(run=lazily(_HANDLERS, "run_node"))


def _add_self_signed(commands: Commands) -> None:
    parser = add_command(commands, "self-signed", "make a node's certificate without a CA", _SELF_SIGNED_EXAMPLES)
    _add_names(parser)
    _add_making_options(parser, _SELF_SIGNED_DAYS, "the first NAME")
    _add_combined(parser)
    parser.set_defaults(run=lazily(_HANDLERS, "run_self_signed"))


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
    parser.set_defaults(run=lazily(_HANDLERS, "run_bundle"))


def _add_show(commands: Commands) -> None:
    parser = add_command(commands, "show", "tell what is in a certificate file", _SHOW_EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.set_defaults(run=lazily(_HANDLERS, "run_show"))


def _add_verify(commands: Commands) -> None:
    parser = add_command(commands, "verify", "say whether certificates will work, or why not", _VERIFY_EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="nodes' certificates")
    parser.add_argument("--ca", type=Path, required=True, metavar="FILE|DIR", help="what the nodes trust (tca)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key of FILE (default: in FILE, if anywhere)")
    parser.add_argument("--name", help="the name or address that the node announces")
    parser.add_argument("--user", help="the server's user, who must be able to read all these files (mysql)")
    parser.set_defaults(run=lazily(_HANDLERS, "run_verify"))


def _add_rotate(commands: Commands) -> None:
    parser = add_command(commands, "rotate", "change the CA of a cluster without an outage", _ROTATE_EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, help="nodes' certificates")
    parser.add_argument("--old", type=Path, required=True, metavar="FILE", help="the CA that goes")
    parser.add_argument("--new", type=Path, required=True, metavar="FILE", help="the CA that comes")
    parser.add_argument(
        "--ca", type=Path, action="append", default=[], metavar="FILE", help="a node's CA file (repeatable)"
    )
    parser.set_defaults(run=lazily(_HANDLERS, "run_rotate"))


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
