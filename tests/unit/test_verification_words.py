"""Refusals of OpenSSL that few meet are told in words, with what to do, and without OpenSSL's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from lab import certificates as lab
from pytunnel.tls.trust import find_refusal
from pytunnel.tls.verification import explain
from tests.support.chains import intermediate, made_with

ROOT = lab.authority("Root")
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
NAMES = [x509.DNSName("my.cluster")]
DOCUMENT = Path(__file__).parents[2] / "docs" / "certificates.md"


def said(node: lab.Identity, *chain: lab.Identity) -> str:
    """Why the node with this chain is refused, by those who trust the root."""
    refusal = find_refusal(node.certificate, [item.certificate for item in chain], [ROOT.certificate])
    assert refusal is not None
    return explain(refusal)


def constrained(*, permitted: bool) -> lab.Identity:
    """A CA for names in my.cluster alone, or for none of these."""
    constraints = x509.NameConstraints(NAMES if permitted else None, None if permitted else NAMES)
    return made_with(x509.BasicConstraints(True, None), constraints, issuer=ROOT, name="Middle")


def test_a_critical_extension_that_is_unknown_is_told_in_words() -> None:
    words = said(made_with(UNKNOWN, issuer=ROOT, name="node1"))
    assert words.startswith(
        "CN=node1, which can't be trusted: it has a critical extension that OpenSSL does not know; "
    )


def test_a_path_that_is_too_long_is_told_in_words_of_the_ca_that_forbids_it() -> None:
    short = made_with(x509.BasicConstraints(True, 0), issuer=ROOT, name="Short")
    below = intermediate(short, "Below")
    words = said(lab.issued(below, "node1"), below, short)
    assert words.startswith("a chain with /CN=Short, which can't be trusted: more CAs stand below it than its path ")


@pytest.mark.parametrize(
    ("permitted", "name", "expected"),
    [
        (True, "node1.other", "one of its names is not among those that its CA may issue for (name constraints); "),
        (
            False,
            "node1.my.cluster",
            "one of its names is among those that its CA may not issue for (name constraints); ",
        ),
    ],
)
def test_a_name_that_the_ca_is_not_for_is_told_in_words(permitted: bool, name: str, expected: str) -> None:
    ca = constrained(permitted=permitted)
    words = said(lab.issued(ca, "node1", names=[name]), ca)
    assert words.partition("which can't be trusted: ")[2].startswith(expected)


@pytest.mark.parametrize(
    "message",
    ["more CAs stand below it than its path length allows", "it has a critical extension", "(name constraints)"],
)
def test_the_document_says_what_to_do(message: str) -> None:
    assert message in DOCUMENT.read_text()
