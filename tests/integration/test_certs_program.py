"""`pytunnel certs` as a database administrator runs it, and what the real openssl makes of its files."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import IO

import pytest

from lab import certificates as lab
from pytunnel.tls.settings import TlsSettings
from tests.support.certs import certs, commands_of_the_moment
from tests.support.programs import needs
from tests.support.tunnels import tunnel

pytestmark = needs("openssl")

LIMIT = 60  # seconds for any program
NODE1, NODE2 = "node1.my.cluster", "node2.my.cluster"


def openssl(folder: Path, *words: str) -> tuple[bool, str]:
    """Whether openssl says that all is well, and all that it says."""
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def openssl_accepts(folder: Path, ca: str, certificate: str, *options: str) -> bool:
    """What `openssl verify` says of a node's certificate, for servers and for clients, as strictly as it can."""
    strict = ("-x509_strict", "-auth_level", "2", "-CAfile", ca)
    return all(
        openssl(folder, "verify", *strict, "-purpose", purpose, *options, certificate)[0]
        for purpose in ("sslserver", "sslclient")
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA with two nodes, and two self-signed nodes with their bundle. Tests don't change this directory."""
    folder = tmp_path_factory.mktemp("certs")
    certs(folder, "ca", "Shop databases")
    certs(folder, "node", NODE1, "node1", "--ip", "10.0.0.1", "--ip", "fd00::1", "--out", "node1")
    certs(folder, "node", NODE2, "--rsa", "2048", "--combined", "--out", "node2")
    certs(folder, "self-signed", NODE1, "--ip", "10.0.0.1", "--out", "self1")
    certs(folder, "self-signed", NODE2, "--rsa", "2048", "--combined", "--out", "self2")
    certs(folder, "bundle", "self1.crt", "self2.crt")
    return folder


# What openssl thinks of it.


@pytest.mark.parametrize("node", ["node1.crt", "node2.crt"])
def test_openssl_accepts_a_node_s_certificate_of_the_ca(files: Path, node: str) -> None:
    assert openssl_accepts(files, "ca.crt", node)


@pytest.mark.parametrize("node", ["self1.crt", "self2.crt"])
def test_openssl_accepts_a_self_signed_certificate_of_the_bundle(files: Path, node: str) -> None:
    assert openssl_accepts(files, "bundle.crt", node)
    assert not openssl_accepts(files, "ca.crt", node)


@pytest.mark.parametrize("ca", ["ca.crt", "bundle.crt"])
def test_openssl_finds_the_names_and_addresses(files: Path, ca: str) -> None:
    node = "node1.crt" if ca == "ca.crt" else "self1.crt"
    assert openssl_accepts(files, ca, node, "-verify_hostname", NODE1)
    assert openssl_accepts(files, ca, node, "-verify_ip", "10.0.0.1")
    assert not openssl_accepts(files, ca, node, "-verify_hostname", NODE2)
    assert not openssl_accepts(files, ca, node, "-verify_ip", "10.0.0.2")


def test_openssl_shows_what_was_asked_for(files: Path) -> None:
    _, text = openssl(files, "x509", "-in", "node1.crt", "-noout", "-text")
    for expected in (
        r"Subject: CN ?= ?node1\.my\.cluster\n",
        r"Issuer: CN ?= ?Shop databases\n",
        r"DNS:node1\.my\.cluster, DNS:node1, IP Address:10\.0\.0\.1, IP Address:FD00:0:0:0:0:0:0:1\n",
        r"Basic Constraints: critical\s+CA:FALSE\n",
        r"Key Usage: critical\s+Digital Signature\n",
        r"TLS Web Server Authentication, TLS Web Client Authentication\n",
        r"ASN1 OID: prime256v1\n",
        r"Signature Algorithm: ecdsa-with-SHA256\n",
    ):
        assert re.search(expected, text), f"{expected} is not in:\n{text}"


def test_openssl_shows_an_rsa_key_where_it_was_asked_for(files: Path) -> None:
    _, text = openssl(files, "x509", "-in", "node2.crt", "-noout", "-text")
    assert "Public-Key: (2048 bit)" in text
    assert re.search(r"Key Usage: critical\s+Digital Signature, Key Encipherment\n", text)


def test_openssl_takes_the_ca_for_a_ca(files: Path) -> None:
    _, text = openssl(files, "x509", "-in", "ca.crt", "-noout", "-text")
    assert re.search(r"CA:TRUE, pathlen:0\n", text)
    assert re.search(r"Key Usage: critical\s+Certificate Sign, CRL Sign\n", text)


@pytest.mark.parametrize(("key", "certificate"), [("node1.key", "node1.crt"), ("node2.pem", "node2.crt")])
def test_the_key_is_sound_and_belongs_to_the_certificate(files: Path, key: str, certificate: str) -> None:
    sound, said = openssl(files, "pkey", "-in", key, "-noout", "-check")
    assert sound, said
    of_key = openssl(files, "pkey", "-in", key, "-pubout")[1]
    assert of_key == openssl(files, "x509", "-in", certificate, "-noout", "-pubkey")[1]


def test_a_node_s_own_key_can_t_issue_certificates_in_other_names(files: Path, tmp_path: Path) -> None:
    openssl(tmp_path, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=evil", "-keyout", "k", "-out", "r")
    issuer = ("-CA", str(files / "self1.crt"), "-CAkey", str(files / "self1.key"), "-set_serial", "02")
    made, said = openssl(tmp_path, "x509", "-req", "-in", "r", "-days", "9", *issuer, "-out", "evil.crt")
    assert made, said
    assert not openssl(tmp_path, "verify", "-partial_chain", "-CAfile", str(files / "bundle.crt"), "evil.crt")[0]
    assert "not allowed to issue" in certs(tmp_path, "verify", "--ca", str(files / "bundle.crt"), "evil.crt", code=2)


# A TLS connection between openssl's own server and client.


@contextmanager
def running(files: Path, *words: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """An openssl program that waits for input and output; killed at the end of the block, or of the time limit."""
    with subprocess.Popen(
        ["openssl", *words], cwd=files, stdin=PIPE, stdout=PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            yield process.stdin, process.stdout
        finally:
            timer.cancel()
            process.kill()


@contextmanager
def openssl_server(files: Path, node: str, ca: str) -> Iterator[int]:
    """openssl's own server, which demands a client certificate and answers each line backwards; its port."""
    words = ["s_server", "-accept", "127.0.0.1:0", "-Verify", "3", "-verify_return_error", "-CAfile", ca, "-rev"]
    with running(files, *words, *shown_by(node)) as (_, output):
        listening = next(line for line in output if line.startswith("ACCEPT"))
        yield int(listening.rpartition(":")[2])


def shown_by(node: str) -> list[str]:
    """The options that make openssl show a node's certificate: node2's and self2's key are in a combined file."""
    return ["-cert", f"{node}.crt", "-key", f"{node}.key" if node.endswith("1") else f"{node}.pem"]


def openssl_client(files: Path, node: str, ca: str, port: int, name: str, *options: str) -> str:
    """What openssl's own client gets back for the line "knat"; nothing where there is no connection."""
    words = ["s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", ca, "-verify_return_error", *shown_by(node)]
    with running(files, *words, "-verify_hostname", name, "-quiet", *options) as (typed, output):
        with suppress(BrokenPipeError):  # it has ended already, which the empty answer tells
            typed.write("knat\n")
            typed.flush()
        return output.readline()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("server", "client", "ca"),
    [
        ("node1", "node2", "ca.crt"),
        ("node2", "node1", "ca.crt"),
        ("self1", "self2", "bundle.crt"),
        ("self2", "self1", "bundle.crt"),
    ],
)
def test_openssl_s_own_server_and_client_trust_each_other(
    files: Path, server: str, client: str, ca: str, version: str
) -> None:
    name = NODE1 if server.endswith("1") else NODE2
    with openssl_server(files, server, ca) as port:
        assert openssl_client(files, client, ca, port, name, version) == "tank\n"


def test_openssl_s_own_client_refuses_a_server_of_another_name(files: Path) -> None:
    with openssl_server(files, "node1", "ca.crt") as port:
        assert openssl_client(files, "node2", "ca.crt", port, NODE1) == "tank\n"
        assert openssl_client(files, "node2", "ca.crt", port, NODE2) == ""


def test_the_tunnel_takes_the_files_and_talks_with_openssl(files: Path) -> None:
    settings = TlsSettings(certificate=files / "node2.pem", ca=files / "ca.crt")
    with tunnel("listen", settings, "127.0.0.1:0", "exec:cat") as listening:
        assert openssl_client(files, "node1", "ca.crt", listening.port, NODE2) == "knat\n"


# Files.


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_private_and_certificates_public(files: Path) -> None:
    for name in ("ca.key", "node1.key", "node2.pem", "self1.key", "self2.pem"):
        assert mode(files / name) == 0o600, name
    for name in ("ca.crt", "node1.crt", "node2.crt", "bundle.crt"):
        assert mode(files / name) == 0o644, name


def test_nothing_else_is_written(files: Path) -> None:
    expected = (
        "bundle.crt ca.crt ca.key node1.crt node1.key node2.crt node2.pem self1.crt self1.key self2.crt self2.pem"
    )
    assert sorted(path.name for path in files.iterdir()) == expected.split()


def test_the_first_name_is_the_files_name(tmp_path: Path) -> None:
    certs(tmp_path, "self-signed", "*.my.cluster")
    certs(tmp_path, "self-signed", "fd00::1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fd00::1.crt",
        "fd00::1.key",
        "wildcard.my.cluster.crt",
        "wildcard.my.cluster.key",
    ]


def test_no_file_is_overwritten_unless_that_is_asked_for(tmp_path: Path) -> None:
    certs(tmp_path, "ca")
    before = (tmp_path / "ca.key").read_bytes()
    assert "ca.key exists and was left as it is; give --force" in certs(tmp_path, "ca", code=2)
    assert (tmp_path / "ca.key").read_bytes() == before
    certs(tmp_path, "ca", "--force")
    assert (tmp_path / "ca.key").read_bytes() != before
    assert mode(tmp_path / "ca.key") == 0o600


def test_two_cas_made_on_one_day_have_different_names(tmp_path: Path) -> None:
    assert len({certs(tmp_path, "ca", "--out", name).partition(":")[2].partition(",")[0] for name in "ab"}) == 2


def test_validity_is_in_days(tmp_path: Path) -> None:
    certs(tmp_path, "self-signed", "node1", "--days", "3")
    assert openssl(tmp_path, "x509", "-in", "node1.crt", "-noout", "-checkend", str(3 * 86400 - 600))[0]
    assert not openssl(tmp_path, "x509", "-in", "node1.crt", "-noout", "-checkend", str(3 * 86400 + 600))[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("node", "node1"), "the CA file ca.crt does not exist"),
        (("self-signed", "node1:4444"), "'node1:4444' is no host name and no IP address"),
        (("self-signed", "node1", "--ip", "10.0.0"), "--ip '10.0.0' is no IP address"),
        (("self-signed", "node1", "--rsa", "1024"), "--rsa 1024: expected a number of bits from 2048"),
        (("self-signed", "node1", "--days", "0"), "--days 0: expected a number from 1"),
        (("self-signed", "node1", "--out", "none/node1"), "none/node1.key can't be written: No such file or directory"),
        (("self-signed",), "the following arguments are required: NAME"),
        (("ca", "x" * 65), "can't be a CA's name"),
        (("bundle", "none.crt"), "none.crt does not exist"),
        (("show", "none.crt"), "none.crt does not exist"),
        (("verify", "none.crt"), "the following arguments are required: --ca"),
        (("verify", "--ca", "a", "--name", "n", "b", "c"), "--name belongs to one certificate"),
        (("verify", "--ca", "a", "--user", "no-such-user", "b"), "this host has no user 'no-such-user'"),
        (("rotate", "--old", "none.crt", "--new", "b"), "the CA file none.crt does not exist"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_written(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    output = certs(tmp_path, *words, code=2)
    assert said in output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


# Bundles and descriptions.


def in_bundle(folder: Path, bundle: str) -> list[str]:
    """The common names that openssl finds in a bundle."""
    openssl(folder, "crl2pkcs7", "-nocrl", "-certfile", bundle, "-out", "bundle.p7")
    return re.findall(r"subject=.*CN ?= ?(\S+)", openssl(folder, "pkcs7", "-in", "bundle.p7", "-print_certs")[1])


def test_openssl_finds_all_certificates_in_a_bundle_and_no_key(files: Path, tmp_path: Path) -> None:
    certs(tmp_path, "bundle", *(str(files / name) for name in ("self1.crt", "self2.pem", "self1.crt")))
    assert in_bundle(tmp_path, "bundle.crt") == [NODE1, NODE2]
    assert "PRIVATE" not in (tmp_path / "bundle.crt").read_text()


def test_a_node_leaves_the_bundle(files: Path, tmp_path: Path) -> None:
    bundle = str(files / "bundle.crt")
    certs(tmp_path, "bundle", bundle, "--without", str(files / "self1.crt"), "--out", "less.crt")
    assert in_bundle(tmp_path, "less.crt") == [NODE2]


def test_serial_and_fingerprint_are_those_that_openssl_shows(files: Path) -> None:
    shown = certs(files, "show", "node1.crt")
    _, said = openssl(files, "x509", "-in", "node1.crt", "-noout", "-serial", "-fingerprint", "-sha256")
    for value in re.findall(r"=(\S+)", said):
        assert value.removeprefix("0") in shown


# Verification.


def levels(output: str) -> list[str]:
    return [line.split()[0] for line in output.splitlines()]


def test_good_certificates_are_ok_and_the_exit_code_is_0(files: Path) -> None:
    assert levels(certs(files, "verify", "--ca", "ca.crt", "node1.crt", "node2.pem")) == ["OK"] * 3


def test_a_warning_makes_the_exit_code_1(files: Path, tmp_path: Path) -> None:
    certs(tmp_path, "self-signed", "node1", "--days", "5")
    output = certs(tmp_path, "verify", "--ca", "node1.crt", "node1.crt", code=1)
    assert levels(output) == ["WARNING", "WARNING"]
    assert "it expires in 4 days" in output


def test_a_fault_makes_the_exit_code_2_and_the_others_are_still_checked(files: Path) -> None:
    output = certs(files, "verify", "--ca", "ca.crt", "self1.crt", "none.crt", "node1.crt", code=2)
    assert levels(output) == ["OK", "FAULT", "FAULT", "OK"]


def test_the_key_and_the_announced_name_are_checked(files: Path) -> None:
    good = ("verify", "--ca", "ca.crt", "node1.crt", "--key", "node1.key")
    assert "its key fits" in certs(files, *good, "--name", "10.0.0.1")
    assert "no IP SAN for 10.0.0.9" in certs(files, *good, "--name", "10.0.0.9", code=2)
    wrong = certs(files, "verify", "--ca", "ca.crt", "node1.crt", "--key", "self1.key", code=2)
    assert "does not belong to the certificate" in wrong


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask in another user's name")
def test_a_key_that_the_server_s_user_can_t_read_is_a_fault(files: Path) -> None:
    output = certs(files, "verify", "--ca", "ca.crt", "node2.pem", "--user", "nobody", code=2)
    assert "the user nobody can't read" in output


def recipe(folder: Path, *, subject: str, key: str = "rsa:2048", digest: str = "-sha256") -> None:
    """A CA and a node as the servers' manuals make them by hand, with openssl's own programs."""
    openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "99", "-subj", "/CN=Authority",
            "-keyout", "ca.key", "-out", "ca.crt")  # fmt: skip
    openssl(folder, "req", "-new", "-newkey", key, "-nodes", "-subj", subject, "-keyout", "n.key", "-out", "n.csr")
    made, said = openssl(folder, "x509", "-req", "-in", "n.csr", "-days", "98", "-CA", "ca.crt", "-CAkey", "ca.key",
                         "-set_serial", "01", digest, "-out", "n.crt")  # fmt: skip
    assert made, said


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"subject": "/CN=node1"}, None),
        ({"subject": "/CN=node1", "key": "rsa:1024"}, "its key is too short"),
        ({"subject": "/CN=node1", "digest": "-sha1"}, "its signature's digest is too weak"),
    ],
)
def test_the_manuals_recipes_are_judged_as_openssl_does(tmp_path: Path, made: dict[str, str], said: str | None) -> None:
    recipe(tmp_path, **made)
    accepted, openssl_said = openssl(tmp_path, "verify", "-auth_level", "2", "-CAfile", "ca.crt", "n.crt")
    assert accepted == (said is None), openssl_said
    output = certs(tmp_path, "verify", "--ca", "ca.crt", "n.crt", "--key", "n.key", code=2 if said else 0)
    assert (said or "its key fits") in output


def test_a_node_with_the_ca_s_name_is_not_ok(tmp_path: Path) -> None:
    recipe(tmp_path, subject="/CN=Authority")
    output = certs(tmp_path, "verify", "--ca", "ca.crt", "n.crt", code=2 if is_refused_by_openssl(tmp_path) else 1)
    assert "its name /CN=Authority is also the name of its CA" in output


def is_refused_by_openssl(folder: Path) -> bool:
    return not openssl(folder, "verify", "-CAfile", "ca.crt", "n.crt")[0]


def test_an_expired_certificate_is_refused_as_openssl_does(tmp_path: Path) -> None:
    ca = lab.authority("Authority")
    (tmp_path / "ca.crt").write_bytes(ca.certificate_pem())
    (tmp_path / "n.crt").write_bytes(lab.expired(ca, "node1").certificate_pem())
    assert is_refused_by_openssl(tmp_path)
    assert "expired on" in certs(tmp_path, "verify", "--ca", "ca.crt", "n.crt", code=2)


# Change of CA.


def test_whoever_runs_what_rotate_prints_changes_the_ca_without_an_outage(tmp_path: Path) -> None:
    certs(tmp_path, "ca", "Old CA", "--out", "old")
    certs(tmp_path, "ca", "New CA", "--out", "new")
    bundles = ["bundle1.crt", "bundle2.crt"]
    for number, bundle in enumerate(bundles, start=1):
        ca = ("--ca", "old.crt", "--ca-key", "old.key")
        certs(tmp_path, "node", f"node{number}.my.cluster", "--ip", f"10.0.0.{number}", *ca, "--out", f"node{number}")
        certs(tmp_path, "bundle", "old.crt", "--out", bundle)
    installed = ("--ca", bundles[0], "--ca", bundles[1], "node1.crt", "node2.crt")
    state = ("rotate", "--old", "old.crt", "--new", "new.crt", *installed)
    steps = 0
    while commands := commands_of_the_moment(certs(tmp_path, *state, code=0 if steps == 6 else 1)):
        certs(tmp_path, *commands[0])
        steps += 1
        for bundle in bundles:
            accepted, said = openssl(tmp_path, "verify", "-CAfile", bundle, "node1.crt", "node2.crt")
            assert accepted, f"{bundle} after {shlex.join(commands[0])}: {said}"
    assert steps == 6
    assert openssl_accepts(tmp_path, "new.crt", "node1.crt", "-verify_ip", "10.0.0.1")
    assert not openssl_accepts(tmp_path, "old.crt", "node1.crt")


def test_a_ca_that_was_dropped_too_early_is_an_outage(files: Path, tmp_path: Path) -> None:
    certs(tmp_path, "ca", "New CA", "--out", "new")
    old, node = str(files / "ca.crt"), str(files / "node1.crt")
    words = ("rotate", "--old", old, "--new", "new.crt", "--ca", "new.crt", node)
    assert "nodes with this bundle refuse" in certs(tmp_path, *words, code=2)


def test_without_files_the_plan_alone_is_printed(files: Path, tmp_path: Path) -> None:
    certs(tmp_path, "ca", "New CA", "--out", "new")
    output = certs(tmp_path, "rotate", "--old", str(files / "ca.crt"), "--new", "new.crt")
    assert "restart" in output
    assert "a running pytunnel listen or connect when they change" in output
    assert re.findall(r"^(\d)\. not checked: ", output, re.MULTILINE) == ["1", "2", "3"]
