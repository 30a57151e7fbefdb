"""The commands that take a change of CA one step further."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from pytunnel.certs.authority import is_authority, read_ca
from pytunnel.certs.rotation import Bundle, Goal, NodeFile, Step
from pytunnel.tls.credentials import holds_key
from pytunnel.tls.identity import alternatives, common_names


def advise(step: Step, old: Path, new: Path) -> Iterator[str]:
    """A line for each file that the step still has to change; `old` and `new` are the CAs' files."""
    for bundle in step.bundles:
        change = [str(new)] if step.goal is Goal.TRUST_BOTH else ["--without", str(old)]
        if bundle in step.listless:
            yield from _ask_for_list(bundle, new)
            change += [str(_list_file(new))] if is_authority(read_ca(new)) else []
        yield _line(["bundle", str(bundle.path), *change, "--out", str(bundle.path), "--force"])
    for node in step.nodes:
        if is_authority(read_ca(new)):
            yield from _renewal(node, new)
        else:
            yield f"put {new} and its key in the place of {node.path} and its key"


def _ask_for_list(bundle: Bundle, new: Path) -> Iterator[str]:
    if is_authority(read_ca(new)):
        yield (
            f"{bundle.path} holds revocation lists (CRL), so it needs the new CA's first, or nobody of that CA is let "
            f"in: get it from the CA (openssl ca -gencrl) as {_list_file(new)}"
        )
    else:
        yield (
            f"{bundle.path} holds revocation lists (CRL), which don't go together with a certificate that is no CA's: "
            "take them out first"
        )


def _list_file(ca: Path) -> Path:
    return ca.with_suffix(".crl")


def _names(node: NodeFile) -> list[str]:
    """The names of the certificate that is replaced, so that the new one has the same."""
    san = alternatives(node.certificate)
    words = list(dict.fromkeys([*common_names(node.certificate), *san.get_values_for_type(x509.DNSName)]))
    addresses = [str(address) for address in san.get_values_for_type(x509.IPAddress)]
    return (words or ["NAME"]) + [word for address in addresses if address not in words for word in ("--ip", address)]


def _renewal(node: NodeFile, new: Path) -> Iterator[str]:
    """The command that replaces the node's files, or makes new ones where `certs node` can't give them their names."""
    combined = holds_key(node.path)
    ending = ".pem" if combined else ".crt"
    fits = node.path.suffix == ending
    out = node.path.with_suffix("") if fits else node.path.with_name(f"{node.path.stem}-new")
    options = [*(["--combined"] if combined else []), *(["--force"] if fits else [])]
    authority = ["--ca", str(new), "--ca-key", str(new.with_suffix(".key"))]
    yield _line(["node", *_names(node), *authority, "--out", str(out), *options])
    if not fits:
        keys = "" if combined else f", and {out}.key in place of the file of its key"
        yield f"put {out}{ending} in place of {node.path}{keys}"


def _line(words: list[str]) -> str:
    return shlex.join(["pytunnel", "certs", *words])
