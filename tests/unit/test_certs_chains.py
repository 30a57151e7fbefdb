"""What is said of a CA's certificate that stands behind the node's own, in its file, and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import certificates as lab
from pytunnel.certs.checking import Subject, check_certificate
from pytunnel.certs.findings import Level
from pytunnel.tls.credentials import load_credentials
from tests.support.chains import intermediate
from tests.support.credential_files import combined, refusal, write

ROOT = lab.authority("Root")
KEY = lab.elliptic_key()
ENDED, ENDING, RENEWED = (intermediate(ROOT, "Middle", days=days, key=KEY) for days in (-1, 20, 100))
NODE = lab.issued(RENEWED, "node1")


def file_of(folder: Path, *chain: lab.Identity, trusted: tuple[lab.Identity, ...] = (ROOT,)) -> Path:
    """The node's file with these certificates behind its own, and ca.pem beside it."""
    write(folder / "ca.pem", lab.bundle_pem(trusted))
    return write(folder / "node.pem", NODE.combined_pem() + lab.bundle_pem(chain))


def verified(file: Path, *trusted: lab.Identity) -> list[tuple[Level, str]]:
    found = check_certificate(Subject(file, [item.certificate for item in trusted]))
    return [(finding.level, finding.text) for finding in found]


def warnings(folder: Path, *chain: lab.Identity, trusted: tuple[lab.Identity, ...]) -> tuple[str, ...]:
    content = file_of(folder, *chain, trusted=trusted).read_bytes()
    return load_credentials(combined(folder, content)).warnings


def test_verify_warns_of_one_that_ends_soon(tmp_path: Path) -> None:
    ((level, text),) = verified(file_of(tmp_path, ENDING), ROOT)
    assert level is Level.WARNING
    assert text.startswith("/CN=Middle behind the node's own certificate expires in 19 days, on ")


def test_verify_warns_of_one_that_has_ended_where_peers_have_a_newer_one(tmp_path: Path) -> None:
    ((level, text),) = verified(file_of(tmp_path, ENDED), ROOT, RENEWED)
    assert level is Level.WARNING
    assert text.startswith("/CN=Middle behind the node's own certificate expired on ")


def test_verify_tells_once_of_one_that_has_ended_and_is_needed(tmp_path: Path) -> None:
    ((level, text),) = verified(file_of(tmp_path, ENDED), ROOT)
    assert (level, text) == (Level.FAULT, "a chain with /CN=Middle, which can't be trusted: it has expired; renew it")


def test_a_tunnel_does_not_start_with_one_that_has_ended_and_is_needed(tmp_path: Path) -> None:
    content = file_of(tmp_path, ENDED).read_bytes()
    assert f"the certificate /CN=Middle in {tmp_path}/node.pem expired on " in refusal(combined(tmp_path, content))


@pytest.mark.parametrize("trusted", [(ROOT, RENEWED), (lab.authority("The peers' CA"),)])
def test_a_tunnel_starts_with_a_warning_where_peers_may_have_a_newer_one(
    tmp_path: Path, trusted: tuple[lab.Identity, ...]
) -> None:
    (warning,) = warnings(tmp_path, ENDED, trusted=trusted)
    assert warning.startswith(f"in {tmp_path}/node.pem, /CN=Middle behind the node's own certificate expired on ")


def test_a_tunnel_starts_with_a_warning_where_the_newer_one_is_in_the_file_too(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, ENDED, RENEWED, trusted=(ROOT,))
    assert "/CN=Middle behind the node's own certificate expired on " in warning


def test_nothing_is_said_of_one_that_has_time_left(tmp_path: Path) -> None:
    assert warnings(tmp_path, RENEWED, trusted=(ROOT,)) == ()
    assert [level for level, _ in verified(file_of(tmp_path, RENEWED), ROOT)] == [Level.OK]
