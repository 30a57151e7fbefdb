"""What doctor says of the keys in `[sst]`, of how much they verify, and of keys for encryption at rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytunnel.certs.findings import Level
from pytunnel.doctor.keyring import check_keyring, key_files
from pytunnel.doctor.keys import check_keys, check_legacy_donor, check_verification
from pytunnel.sst.optionfile import OptionGroup
from pytunnel.sst.request import Role
from pytunnel.sst.settings import SstSettings, read_settings
from pytunnel.sst.tlsfiles import choose_files, secure_rsync_files
from tests.support.options import options

NONE = OptionGroup()


def settings(*lines: str) -> SstSettings:
    sst = options("tcert=/c", "tca=/a", *lines)
    return read_settings(sst, choose_files(sst, NONE, Role.JOINER, Path("/d")))


def test_keys_that_are_known_are_ok_and_named_without_their_values() -> None:
    (found,) = check_keys(options("tcert=/c", "tca=/a", "backup_threads=8", "streamfmt=xbstream"), NONE)
    assert (found.level, found.text) == (Level.OK, "tcert, tca, backup-threads")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("tcerts", "tcert"),
        ("ssl-crll", "ssl-crl"),
        ("cert", "tcert"),
        ("sock-opt", "sockopt"),
        ("legacy_doner", "legacy-donor"),
        ("backup-thread", "backup-threads"),
        ("ssl_sever_cert", "ssl-server-cert"),
    ],
)
def test_a_key_that_is_nearly_one_of_ours_is_told(wrong: str, right: str) -> None:
    (found,) = check_keys(options(f"{wrong}=secret"), NONE)
    assert found.level is Level.WARNING
    assert right in found.advice
    assert "secret" not in found.text


@pytest.mark.parametrize("key", ["compressor", "encrypt-key", "inno-backup-opts", "time", "ssl-cipher", "site-note"])
def test_a_key_of_other_methods_or_of_nobody_is_left_alone(key: str) -> None:
    assert [found.level for found in check_keys(options(f"{key}=1"), NONE)] == [Level.OK]


def test_every_value_that_can_not_be_used_is_a_fault() -> None:
    found = check_keys(options("sockopt=verifi=0", "backup-threads=many", "legacy-donor=2"), NONE)
    assert [item.level for item in found] == [Level.FAULT] * 3
    assert "verify" in f"{found[0].text} {found[0].advice}"


def test_a_key_of_ours_among_the_server_s_keeps_the_server_from_starting() -> None:
    (found,) = check_keys(NONE, options("tcert=/c"))
    assert (found.level, found.advice) == (Level.FAULT, "move tcert to [sst]")


def test_verifying_chain_and_name_is_ok() -> None:
    assert check_verification(settings()).level is Level.OK


@pytest.mark.parametrize("line", ["sockopt=verify=0", "ssl-mode=REQUIRED"])
def test_verifying_nobody_is_a_warning(line: str) -> None:
    assert check_verification(settings(line)).level is Level.WARNING


def test_verifying_the_chain_alone_is_said() -> None:
    found = check_verification(settings("ssl-mode=VERIFY_CA"))
    assert (found.level, "VERIFY_CA" in found.text) == (Level.OK, True)


def test_a_pinned_certificate_is_named() -> None:
    chosen = read_settings(NONE, secure_rsync_files(Path("/p"), Role.JOINER))
    assert "/p/client.crt" in check_verification(chosen).text


def test_a_legacy_donor_is_warned_of_while_it_is_set() -> None:
    assert [found.level for found in check_legacy_donor(settings("legacy-donor=1"))] == [Level.WARNING]
    assert check_legacy_donor(settings()) == []


def test_a_key_file_of_mariadb_must_be_the_same_everywhere() -> None:
    mysqld = options("plugin-load-add=file_key_management", "file_key_management_filename=/k/keys.enc")
    (found,) = check_keyring(mysqld)
    assert (found.level, "/k/keys.enc" in found.advice) == (Level.WARNING, True)
    assert key_files(mysqld) == (Path("/k/keys.enc"),)


@pytest.mark.parametrize("plugin", ["keyring_file", "keyring_encrypted_file"])
def test_a_keyring_in_a_file_belongs_to_one_node(plugin: str) -> None:
    option = f"{plugin}_data"
    (found,) = check_keyring(options(f"early-plugin-load={plugin}.so", f"{option}=/k/ring", f"{option}_password=pw"))
    assert (found.level, "/k/ring" in found.text) == (Level.WARNING, True)
    assert "pw" not in found.text


def test_a_key_service_is_ok() -> None:
    (found,) = check_keyring(options("plugin_load_add=hashicorp_key_management"))
    assert found.level is Level.OK


def test_without_encryption_at_rest_nothing_is_said() -> None:
    assert check_keyring(options("plugin-load-add=auth_socket")) == []
