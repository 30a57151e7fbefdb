"""Change the CA of a running cluster without an outage: the three steps, and how far a cluster has come.

1. Every node trusts both CAs. 2. Every node gets a certificate of the new CA. 3. Every node drops the old CA.
Between any two nodes, at every moment, the one's certificate is trusted by the other's bundle. Where nodes are
self-signed, the same steps change one node's certificate: it is its own CA.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509

from pytunnel.certs.checking import outdated
from pytunnel.certs.errors import CertsError
from pytunnel.certs.findings import Finding, Level
from pytunnel.tls.credentials import describe_subject, read_certificates, read_lists
from pytunnel.tls.identity import MALFORMED
from pytunnel.tls.trust import Refusal, find_refusal
from pytunnel.tls.verification import explain


class Goal(enum.Enum):
    """What each step is for."""

    TRUST_BOTH = "every node trusts both CAs"
    RENEW = "every node has a certificate of the new CA"
    DROP_OLD = "no node trusts the old CA any more"


class Progress(enum.Enum):
    """How far a step has come; UNKNOWN where no file was given to look at."""

    DONE = "done"
    NOW = "now"
    LATER = "later"
    UNKNOWN = "not checked"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a node trusts; with one list in `revoked`, every issuer of a node's certificate needs one."""

    path: Path
    certificates: tuple[x509.Certificate, ...]
    revoked: tuple[x509.CertificateRevocationList, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """The file's content; raises CredentialsError."""
        return cls(path, tuple(read_certificates(path, "CA file")), tuple(read_lists(path)))


@dataclass(frozen=True, slots=True)
class NodeFile:
    """What a node shows: its certificate, and the chain behind it in the file."""

    path: Path
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @classmethod
    def read(cls, path: Path) -> NodeFile:
        """The file's content; raises CredentialsError."""
        certificate, *chain = read_certificates(path)
        return cls(path, certificate, tuple(chain))

    def refusal(
        self, trusted: Iterable[x509.Certificate], revoked: Iterable[x509.CertificateRevocationList] = ()
    ) -> Refusal | None:
        """Why nodes that trust `trusted`, less `revoked`, would refuse this one.

        Raises CertsError where that can't be found out.
        """
        try:
            return find_refusal(self.certificate, self.chain, trusted, revoked)
        except MALFORMED as error:
            raise CertsError(f"{self.path} breaks the rules of X.509 ({error}); make it anew") from error


@dataclass(frozen=True, slots=True)
class Change:
    """The two CAs, and what is installed on the nodes (as far as it is at hand)."""

    old: x509.Certificate
    new: x509.Certificate
    bundles: Sequence[Bundle] = ()
    nodes: Sequence[NodeFile] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One of the three, how far it has come, and the files that still have to change.

    `listless` are those bundles which need the new CA's revocation list.
    """

    goal: Goal
    progress: Progress
    bundles: tuple[Bundle, ...] = ()
    listless: tuple[Bundle, ...] = ()
    nodes: tuple[NodeFile, ...] = ()


def plan(change: Change) -> list[Step]:
    """The three steps. Raises CertsError where old and new are the same."""
    if change.old == change.new:
        raise CertsError("the old and the new CA are the same certificate; make the new one with: pytunnel certs ca")
    listless = tuple(bundle for bundle in change.bundles if _lacks_list(bundle, change))
    lacking = tuple(item for item in change.bundles if change.new not in item.certificates or item in listless)
    old_nodes = tuple(node for node in change.nodes if not _is_from(node, change.new) and _is_from(node, change.old))
    holding = tuple(bundle for bundle in change.bundles if change.old in bundle.certificates)
    todo = (
        Step(Goal.TRUST_BOTH, _progress(change.bundles, lacking), bundles=lacking, listless=listless),
        Step(Goal.RENEW, _progress(change.nodes, old_nodes), nodes=old_nodes),
        Step(Goal.DROP_OLD, _progress(change.bundles, holding), bundles=holding),
    )
    return list(_in_order(todo))


def outages(change: Change) -> list[Finding]:
    """Each pair of nodes that can't talk to each other, because the one's bundle does not trust the other's file."""
    return [
        Finding(Level.FAULT, str(bundle.path), f"nodes with this bundle refuse {node.path}: {explain(refusal)}")
        for bundle in change.bundles
        for node in change.nodes
        if (refusal := node.refusal(bundle.certificates, bundle.revoked)) is not None
    ]


def doubts(change: Change) -> list[Finding]:
    """What is not wrong, but will make trouble."""
    if change.old.subject != change.new.subject:
        return []
    name = describe_subject(change.new)
    text = f"the old and the new CA have the same name {name}; programs look for a CA by its name, so give it another"
    return [Finding(Level.WARNING, "both CAs", text)]


def _is_from(node: NodeFile, ca: x509.Certificate) -> bool:
    return node.refusal([ca]) is None


def _lacks_list(bundle: Bundle, change: Change) -> bool:
    """Whether the bundle's revocation lists would keep out what the new CA issues, because none is the new CA's."""
    if not bundle.revoked or any(_is_list_of(change.new, item) for item in bundle.revoked):
        return False
    # Where a CA between the new one and the nodes issues, the list is that CA's, whose name only its nodes tell.
    return not any(
        _is_from(node, change.new) and node.refusal(bundle.certificates, bundle.revoked) is None
        for node in change.nodes
    )


def _is_list_of(ca: x509.Certificate, item: x509.CertificateRevocationList) -> bool:
    """Whether it is the CA's, and still holds: one that has ended keeps everybody out, too."""
    return item.issuer == ca.subject and outdated(item, datetime.datetime.now(datetime.UTC)) is None


def _progress(looked_at: Sequence[object], todo: Sequence[object]) -> Progress:
    if not looked_at:
        return Progress.UNKNOWN
    return Progress.NOW if todo else Progress.DONE


def _in_order(steps: Sequence[Step]) -> Iterator[Step]:
    """A step may only begin when those before it are known to be done."""
    ready = True
    for step in steps:
        yield step if ready or step.progress is not Progress.NOW else replace(step, progress=Progress.LATER)
        ready = ready and step.progress is Progress.DONE
