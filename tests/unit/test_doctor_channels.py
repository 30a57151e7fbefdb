"""What doctor says of the four channels: encrypted or not, and by which option."""

from __future__ import annotations

import pytest

from pytunnel.certs.findings import Level
from pytunnel.doctor.channels import (
    check_client_channel,
    check_ist_channel,
    check_replication_channel,
    check_sst_channel,
)
from pytunnel.doctor.findings import Finding
from pytunnel.doctor.server import ServerVersion
from pytunnel.sst.optionfile import OptionGroup
from tests.support.options import options

NONE = OptionGroup()
OLD = ServerVersion(mariadb=True, numbers=(10, 11))
CERTIFICATE = ("ssl-cert=/c", "ssl-key=/k")


def provider(text: str) -> OptionGroup:
    return options(f"wsrep_provider_options={text}")


def sst(method: str, *lines: str, mysqld: OptionGroup = NONE, has_stunnel: bool = True) -> Finding:
    return check_sst_channel(method, options(*lines), mysqld, has_stunnel=has_stunnel)


def test_clients_speak_in_clear_where_the_server_has_no_certificate() -> None:
    found = check_client_channel(NONE, OLD)
    assert (found.level, "not encrypted" in found.text) == (Level.WARNING, True)
    assert "ssl-cert and ssl-key" in found.advice


def test_clients_that_may_speak_in_clear_are_a_warning() -> None:
    found = check_client_channel(options(*CERTIFICATE), OLD)
    assert (found.level, found.advice) == (
        Level.WARNING,
        "set require_secure_transport=ON in [mysqld] when all clients do",
    )


def test_clients_that_must_encrypt_are_ok() -> None:
    found = check_client_channel(options(*CERTIFICATE, "require_secure_transport=ON"), OLD)
    assert found.level is Level.OK
    assert "ssl-cert" in found.text


@pytest.mark.parametrize("off", ["ssl=0", "skip-ssl", "ssl=OFF"])
def test_a_certificate_that_is_switched_off_does_not_count(off: str) -> None:
    assert "not encrypted" in check_client_channel(options(*CERTIFICATE, off), OLD).text


def test_demanding_encryption_without_a_certificate_shuts_clients_out() -> None:
    assert check_client_channel(options("require-secure-transport"), OLD).level is Level.FAULT


@pytest.mark.parametrize(
    ("version", "encrypted"),
    [
        (ServerVersion(mariadb=True, numbers=(11, 4)), True),
        (ServerVersion(mariadb=True, numbers=(11, 3)), False),
        (ServerVersion(mariadb=False, numbers=(8, 0)), True),
        (None, False),
    ],
)
def test_newer_servers_make_a_certificate_for_their_clients(version: ServerVersion | None, encrypted: bool) -> None:
    assert ("not encrypted" not in check_client_channel(NONE, version).text) is encrypted


@pytest.mark.parametrize(
    "text",
    [
        "socket.ssl_cert=/c;socket.ssl_key=/k",
        "socket.ssl=yes; socket.ssl_cert = /c ; socket.ssl_key=/k; gcache.size=1G",
        "socket.ssl=1;socket.ssl_key=/k;socket.ssl_cert=/c;socket.ssl_ca=/a",
    ],
)
def test_replication_is_encrypted_by_a_key_and_a_certificate(text: str) -> None:
    assert check_replication_channel(provider(text)).level is Level.OK
    assert check_ist_channel(provider(text)).level is Level.OK


@pytest.mark.parametrize("text", ["", "gcache.size=1G", "socket.ssl=no;socket.ssl_cert=/c;socket.ssl_key=/k"])
def test_replication_is_in_clear_otherwise(text: str) -> None:
    found = check_replication_channel(provider(text))
    assert (found.level, "not encrypted" in found.text) == (Level.WARNING, True)


@pytest.mark.parametrize(
    ("text", "missing"),
    [("socket.ssl=yes", "socket.ssl_cert and socket.ssl_key are"), ("socket.ssl_cert=/c", "socket.ssl_key is")],
)
def test_half_of_what_tls_needs_is_a_fault(text: str, missing: str) -> None:
    found = check_replication_channel(provider(text))
    assert found.level is Level.FAULT
    assert f"{missing} not set" in found.text


def test_a_dynamic_socket_lets_plain_nodes_in() -> None:
    found = check_replication_channel(provider("socket.ssl_cert=/c;socket.ssl_key=/k;socket.dynamic=true"))
    assert (found.level, "socket.dynamic" in found.advice) == (Level.WARNING, True)


def test_an_ist_address_may_ask_for_clear_by_itself() -> None:
    text = "socket.ssl_cert=/c;socket.ssl_key=/k;ist.recv_addr=tcp://10.0.0.1"
    found = check_ist_channel(provider(text))
    assert (found.level, "ist.recv_addr" in found.text) == (Level.WARNING, True)
    assert check_replication_channel(provider(text)).level is Level.OK


def test_options_of_the_provider_s_plugin_count_too() -> None:
    mysqld = options("wsrep_provider_socket_ssl_cert=/c", "wsrep_provider_socket_ssl_key=/k")
    assert check_replication_channel(mysqld).level is Level.OK


@pytest.mark.parametrize("line", ["pxc-encrypt-cluster-traffic=ON", "wsrep_ssl_mode=SERVER_X509"])
def test_modes_of_the_whole_server_encrypt_replication_and_ist(line: str) -> None:
    key = line.partition("=")[0]
    for found in (check_replication_channel(options(line)), check_ist_channel(options(line))):
        assert (found.level, key in found.text) == (Level.OK, True)


@pytest.mark.parametrize("method", ["rsync_tunnel", "secure_rsync"])
def test_our_methods_always_encrypt(method: str) -> None:
    assert (sst(method).level, method in sst(method).text) == (Level.OK, True)


@pytest.mark.parametrize("method", ["rsync", "rsync_wan"])
def test_the_server_s_rsync_is_in_clear_by_default(method: str) -> None:
    found = sst(method)
    assert (found.level, "not encrypted" in found.text) == (Level.WARNING, True)
    assert "rsync_tunnel" in found.advice


def test_the_server_s_rsync_goes_through_stunnel_where_certificates_are_set() -> None:
    for found in (sst("rsync", "tca=/a", "tcert=/c", "tkey=/k"), sst("rsync", mysqld=options("ssl-ca=/a"))):
        assert (found.level, "VERIFY_CA" in found.text) == (Level.OK, True)


def test_a_disabled_ssl_mode_goes_before_certificates() -> None:
    assert "ssl-mode=DISABLED" in sst("rsync", "tca=/a", "ssl-mode=disabled").text


def test_stunnel_without_verification_is_a_warning() -> None:
    found = sst("rsync", "tcert=/c", "tkey=/k")
    assert (found.level, "not verified" in found.text) == (Level.WARNING, True)


def test_a_missing_stunnel_is_a_fault() -> None:
    found = sst("rsync", "ssl-mode=VERIFY_CA", "tca=/a", has_stunnel=False)
    assert (found.level, "install stunnel" in found.advice) == (Level.FAULT, True)


@pytest.mark.parametrize(
    ("lines", "level", "word"),
    [
        ((), Level.WARNING, "not encrypted"),
        (("encrypt=0",), Level.WARNING, "not encrypted"),
        (("encrypt=1", "encrypt-key=SECRETKEY"), Level.WARNING, "encrypt=1"),
        (("encrypt=2",), Level.WARNING, "name"),
        (("encrypt=3",), Level.WARNING, "name"),
        (("encrypt=4",), Level.OK, "encrypt=4"),
        (("ssl-mode=VERIFY_CA",), Level.OK, "ssl-mode=VERIFY_CA"),
    ],
)
def test_backup_methods_are_encrypted_by_encrypt_or_ssl_mode(lines: tuple[str, ...], level: Level, word: str) -> None:
    found = sst("mariabackup", *lines)
    assert (found.level, word in found.text) == (level, True)
    assert "SECRETKEY" not in found.text


def test_the_cluster_wide_mode_encrypts_xtrabackup() -> None:
    assert sst("xtrabackup-v2", mysqld=options("pxc-encrypt-cluster-traffic=ON")).level is Level.OK


def test_an_unknown_method_is_not_vouched_for() -> None:
    found = sst("carrier_pigeon")
    assert (found.level, "carrier_pigeon" in found.text) == (Level.WARNING, True)
