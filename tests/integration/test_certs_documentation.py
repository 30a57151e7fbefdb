"""docs/certificates.md: its commands work as written, and its option files mean what it says."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from lab.certificates import Identity, revoking
from pytunnel.tls.credentials import read_certificates, read_key

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "certificates.md").read_text()
LIMIT = 120  # seconds for all commands of one scenario


def commands(scenario: str) -> str:
    """The commands of all blocks that are marked as tested for the scenario."""
    blocks = re.findall(rf"<!-- tested: {scenario} -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    assert blocks, f"no commands for {scenario}"
    return "\n".join(blocks)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the server's user may enter, with the program on the shell's PATH."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "bin").mkdir()
        program = folder / "bin" / "pytunnel"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pytunnel "$@"\n')
        program.chmod(0o755)
        yield folder


def run(script: str, place: Path) -> str:
    """What a shell prints that runs the script, each line of which must succeed."""
    own = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=place,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def made(place: Path) -> set[str]:
    return {path.name for path in place.iterdir() if path.is_file()}


def test_the_self_signed_scenario_works(place: Path) -> None:
    output = run(commands("self-signed"), place)
    assert len(re.findall(r"^OK ", output, re.MULTILINE)) == 4
    assert {"node1.pem", "node2.pem", "node3.pem", "bundle.crt"} <= made(place)
    assert output.splitlines()[-1] == "bundle.crt: /CN=node1.my.cluster, /CN=node3.my.cluster, /CN=node4.my.cluster"


def test_the_scenario_without_verification_works(place: Path) -> None:
    run(commands("no-verification"), place)
    assert "node1.pem" in made(place)


def test_the_scenario_with_a_ca_works(place: Path) -> None:
    output = run(commands("ca"), place)
    assert len(re.findall(r"^OK ", output, re.MULTILINE)) == 2
    assert {"ca.crt", "node1.crt", "node1.key", "node2.crt", "node2.key"} <= made(place)


def test_the_rotation_works(place: Path) -> None:
    output = run(commands("rotation"), place)
    assert re.findall(r"^\d\. (\w+): ", output, re.MULTILINE) == ["done"] * 3


def test_a_revocation_list_is_bundled_and_judged_by(place: Path) -> None:
    run("\n".join(line for line in commands("ca").splitlines() if " ca '" in line or " node " in line), place)
    ca, revoked = (read_certificates(place / f"{name}.crt")[0] for name in ("ca", "node2"))
    key = read_key(place / "ca.key", combined=False)
    assert isinstance(key, EllipticCurvePrivateKey)
    (place / "ca.crl").write_bytes(revoking(Identity(ca, key), [Identity(revoked, key)]))
    bundling, verifying = commands("revocation").splitlines()
    run(bundling, place)
    run(f"! {verifying} > said", place)
    levels = re.findall(r"^[A-Z]+ ", (place / "said").read_text(), re.MULTILINE)
    assert [level.strip() for level in levels] == ["OK", "OK", "FAULT"]


def is_there(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@pytest.mark.skipif(os.geteuid() != 0 or not is_there("mysql"), reason="this needs root and a user mysql")
def test_the_server_s_user_gets_its_key(place: Path) -> None:
    before = commands("ca").splitlines()[:2]
    output = run("\n".join([*before, commands("permissions")]), place)
    assert len(re.findall(r"^OK ", output, re.MULTILINE)) == 2


def test_all_commands_are_tested() -> None:
    shown = re.findall(r"```sh\n", DOCUMENT)
    tested = re.findall(r"<!-- tested: [\w-]+ -->\n```sh\n", DOCUMENT)
    assert len(shown) == len(tested) > 0


@pytest.mark.parametrize("option_file", re.findall(r"```ini\n(.*?)```", DOCUMENT, re.DOTALL))
def test_each_file_that_an_option_names_is_made_in_its_scenario(option_file: str) -> None:
    before = DOCUMENT.partition(option_file)[0].rpartition("## ")[2]
    for name in re.findall(r"= /etc/my\.cnf\.d/(\S+)", option_file):
        assert name in before, f"{name} is made nowhere"


def test_each_command_of_the_program_is_in_the_document(place: Path) -> None:
    listed = run("pytunnel certs --help", place).partition("COMMAND\n")[2].partition("\n\n")[0]
    names = re.findall(r"^    ([a-z-]+)", listed, re.MULTILINE)
    assert "rotate" in names
    assert [name for name in names if f"certs {name}" not in DOCUMENT] == []
