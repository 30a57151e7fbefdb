"""`pytunnel certs rotate`, followed to the letter, where files and bundles are not as pytunnel makes them."""

from __future__ import annotations

from pathlib import Path

from lab import certificates as lab
from tests.support.certs import certs, commands_of_the_moment


def stored_ca(folder: Path, name: str) -> None:
    """A CA of that name with its certificate, its key and its revocation list, in PEM."""
    ca = lab.authority(name)
    (folder / f"{name}.crt").write_bytes(ca.certificate_pem())
    (folder / f"{name}.key").write_bytes(ca.key_pem())
    (folder / f"{name}.crl").write_bytes(lab.revoking(ca, []))


def test_a_bundle_with_revocation_lists_gets_the_new_ca_s_before_a_node_is_renewed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        stored_ca(tmp_path, name)
    certs(tmp_path, "node", "node1", "--ca", "old.crt", "--ca-key", "old.key", "--out", "node1")
    certs(tmp_path, "bundle", "old.crt", "old.crl", "new.crt", "--out", "bundle.crt")
    state = ("rotate", "--old", "old.crt", "--new", "new.crt", "--ca", "bundle.crt", "node1.crt")
    for step in range(3):
        (command,) = commands_of_the_moment(certs(tmp_path, *state, code=1))
        assert ("new.crl" in command) == (step == 0)
        certs(tmp_path, *command)
        certs(tmp_path, "verify", "--ca", "bundle.crt", "node1.crt")
    assert commands_of_the_moment(certs(tmp_path, *state)) == []


def test_files_with_the_server_s_own_names_are_renewed_and_put_in_place(tmp_path: Path) -> None:
    for name in ("old", "new"):
        stored_ca(tmp_path, name)
    certs(tmp_path, "node", "node1", "--ca", "old.crt", "--ca-key", "old.key", "--out", "node1")
    (tmp_path / "node1.crt").rename(tmp_path / "server-cert.pem")
    (tmp_path / "node1.key").rename(tmp_path / "server-key.pem")
    certs(tmp_path, "bundle", "old.crt", "new.crt", "--out", "bundle.crt")
    state = ("rotate", "--old", "old.crt", "--new", "new.crt", "--ca", "bundle.crt", "server-cert.pem")
    output = certs(tmp_path, *state, code=1)
    (command,) = commands_of_the_moment(output)
    certs(tmp_path, *command)
    assert "put server-cert-new.crt in place of server-cert.pem, and server-cert-new.key in place of" in output
    (tmp_path / "server-cert-new.crt").rename(tmp_path / "server-cert.pem")
    (tmp_path / "server-cert-new.key").rename(tmp_path / "server-key.pem")
    certs(tmp_path, "verify", "--ca", "bundle.crt", "--key", "server-key.pem", "server-cert.pem")
    assert "3. now: " in certs(tmp_path, *state, code=1)
