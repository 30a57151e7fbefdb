"""Which certificate files a transfer uses, and how much of the peer is verified, in every way that the field has."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytunnel.sst.address import Address
from pytunnel.sst.errors import ExitCode, SstError
from pytunnel.sst.method import SECURE_RSYNC
from pytunnel.sst.optionfile import OptionGroup, parse_output
from pytunnel.sst.request import Request, Role
from pytunnel.sst.rsync import Saving
from pytunnel.sst.settings import SstSettings, read_settings, refused_values
from pytunnel.sst.setup import files_of
from pytunnel.sst.tlsfiles import NameRule, TlsFiles, choose_files, secure_rsync_files
from pytunnel.transport.endpoint import TcpEndpoint
from pytunnel.transport.options import WebSocketOptions

NONE = OptionGroup()


def group(*lines: str) -> OptionGroup:
    """Options as my_print_defaults prints them."""
    return OptionGroup(tuple(parse_output("".join(f"--{line}\n" for line in lines).encode())))


def choose(sst: OptionGroup, mysqld: OptionGroup = NONE, role: Role = Role.JOINER, datadir: str = "/d") -> TlsFiles:
    return choose_files(sst, mysqld, role, Path(datadir))


def settings(*lines: str) -> SstSettings:
    sst = group("tcert=/c", "tca=/a", *lines)
    return read_settings(sst, choose(sst))


def refusal(sst: OptionGroup, mysqld: OptionGroup = NONE, datadir: str = "/d") -> SstError:
    with pytest.raises(SstError) as caught:
        read_settings(sst, choose(sst, mysqld, datadir=datadir))
    return caught.value


MYSQLD = group("ssl-ca=/m/ca", "ssl-cert=/m/cert", "ssl-key=/m/key")


def test_t_keys_come_first() -> None:
    tls = choose(group("tca=/a", "tcert=/c", "tkey=/k", "ssl-cert=/s"), MYSQLD).tls
    assert (tls.ca, tls.certificate, tls.key) == (Path("/a"), Path("/c"), Path("/k"))


def test_a_directory_of_cas_may_stand_beside_the_file() -> None:
    assert choose(group("tcapath=/dir", "tcert=/c")).tls.ca_directory == Path("/dir")


def test_ssl_keys_of_sst_come_before_those_of_the_server() -> None:
    chosen = choose(group("ssl-ca=/a", "ssl-cert=/c", "ssl-key=/k"), MYSQLD)
    assert chosen.tls.certificate == Path("/c")
    assert chosen.name_rule is NameRule.MUST_CARRY


def test_the_servers_own_certificate_is_used_where_sst_names_none() -> None:
    chosen = choose(NONE, MYSQLD)
    assert (chosen.tls.ca, chosen.tls.certificate, chosen.tls.key) == (Path("/m/ca"), Path("/m/cert"), Path("/m/key"))
    assert chosen.name_rule is NameRule.SHOULD_CARRY


@pytest.mark.parametrize(("role", "expected"), [(Role.JOINER, "/server"), (Role.DONOR, "/client")])
def test_a_roles_own_keys_override(role: Role, expected: str) -> None:
    sst = group("ssl-cert=/both", "ssl-server-cert=/server", "ssl-client-cert=/client", "ssl-ca=/a")
    assert choose(sst, role=role).tls.certificate == Path(expected)


def test_revocation_lists_are_taken_from_the_group_of_the_files() -> None:
    server = group("ssl-crl=/m/crl", "ssl-crlpath=/m/crls")
    assert choose(group("tcert=/c"), server).tls.revoked == ()
    assert choose(group("tcert=/c", "ssl-crl=/crl"), server).tls.revoked == (Path("/crl"),)
    assert choose(group("ssl-cert=/c"), server).tls.revoked == (Path("/m/crl"), Path("/m/crls"))


@pytest.mark.parametrize("mode", ["0", "1", "5", "yes"])
def test_an_encrypt_that_is_not_of_this_method_is_refused_by_name(mode: str) -> None:
    error = refusal(group(f"encrypt={mode}", "tcert=/c", "tca=/a"))
    assert error.exit_code == ExitCode.BAD_SETTING
    assert "encrypt" in str(error)
    assert "2" in str(error)


@pytest.mark.parametrize(
    ("mode", "lines", "missing"),
    [
        ("2", ["tcert=/c"], "tca is not set"),
        ("2", [], "tca and tcert are not set"),
        ("3", ["tcert=/c", "tca=/a"], "tkey is not set"),
        ("4", ["ssl-ca=/a", "tcert=/c", "tkey=/k"], "ssl-cert and ssl-key are not set"),
    ],
)
def test_encrypt_demands_its_files_and_names_all_that_are_missing(mode: str, lines: list[str], missing: str) -> None:
    assert missing in str(refusal(group(f"encrypt={mode}", *lines)))


def test_encrypt_4_takes_the_ssl_keys_even_beside_t_keys() -> None:
    sst = group("encrypt=4", "ssl-ca=/a", "ssl-cert=/s", "ssl-key=/k", "tcert=/t")
    assert choose(sst).tls.certificate == Path("/s")


def test_encrypt_4_takes_what_sst_does_not_name_from_the_server() -> None:
    tls = choose(group("encrypt=4", "ssl-cert=/s", "ssl-key=/k"), MYSQLD).tls
    assert (tls.ca, tls.certificate, tls.key) == (Path("/m/ca"), Path("/s"), Path("/k"))


def test_encrypt_4_is_content_with_a_roles_own_keys() -> None:
    sst = group("encrypt=4", "ssl-ca=/a", "ssl-server-cert=/s", "ssl-server-key=/k")
    assert choose(sst).tls.certificate == Path("/s")
    with pytest.raises(SstError, match="ssl-cert and ssl-key are not set"):
        choose(sst, role=Role.DONOR)


@pytest.mark.parametrize(("named", "missing"), [("ssl-cert=/s", "ssl-key"), ("ssl-key=/k", "ssl-cert")])
def test_a_certificate_and_a_key_of_two_groups_are_never_mixed(named: str, missing: str) -> None:
    error = refusal(group("encrypt=4", named), MYSQLD)
    assert f"{missing} is not set; a certificate and its key are taken from the same group" in str(error)
    assert f"{named.partition('=')[0]} in [sst]" in str(error)
    tls = choose(group(named), MYSQLD).tls
    assert Path("/m/cert") != tls.certificate
    assert Path("/m/key") != tls.key


def test_the_servers_certificate_may_stand_beside_a_ca_of_sst() -> None:
    chosen = choose(group("ssl-ca=/a"), MYSQLD)
    assert (chosen.tls.ca, chosen.tls.certificate, chosen.tls.key) == (Path("/a"), Path("/m/cert"), Path("/m/key"))
    assert chosen.name_rule is NameRule.SHOULD_CARRY
    assert chosen.source == "ssl-cert in [mysqld] and ssl-ca in [sst]"


def test_a_ca_of_sst_is_not_widened_by_the_servers() -> None:
    tls = choose(group("ssl-cert=/c", "ssl-capath=/dir"), MYSQLD).tls
    assert (tls.ca, tls.ca_directory) == (None, Path("/dir"))


@pytest.mark.parametrize("name", ["sst", "mysqld"])
def test_an_empty_path_is_refused_with_the_name_of_its_group(name: str) -> None:
    groups = {"sst": NONE, "mysqld": MYSQLD} | {name: group("ssl-cert=/c", "ssl-ca=")}
    assert f"ssl-ca in [{name}] is empty" in str(refusal(groups["sst"], groups["mysqld"]))


@pytest.mark.parametrize(
    ("mode", "verify", "verify_name"),
    [("REQUIRED", False, False), ("verify_ca", True, False), ("VERIFY_IDENTITY", True, True)],
)
def test_ssl_mode_decides_how_much_is_verified(mode: str, verify: bool, verify_name: bool) -> None:
    tls = settings(f"ssl-mode={mode}").tls
    assert (tls.verify, tls.verify_name) == (verify, verify_name)


def test_chain_and_name_are_verified_by_default() -> None:
    tls = settings().tls
    assert (tls.verify, tls.verify_name) == (True, True)


@pytest.mark.parametrize("mode", ["DISABLED", "PREFERRED", "off", ""])
def test_an_ssl_mode_that_may_run_in_clear_is_refused(mode: str) -> None:
    assert "expected REQUIRED, VERIFY_CA, VERIFY_IDENTITY" in str(
        refusal(group("tcert=/c", "tca=/a", f"ssl-mode={mode}"))
    )


def test_the_cluster_wide_mode_takes_the_servers_files_and_not_those_of_sst(tmp_path: Path) -> None:
    for name in ("ca.pem", "mine.pem", "server-key.pem"):
        (tmp_path / name).touch()
    mysqld = group("pxc-encrypt-cluster-traffic=ON", f"ssl-cert={tmp_path}/mine.pem")
    chosen = choose(group("tcert=/c", "tca=/a"), mysqld, datadir=str(tmp_path))
    assert chosen.tls.certificate == tmp_path / "mine.pem"
    assert chosen.tls.key == tmp_path / "server-key.pem"
    assert chosen.tls.ca == tmp_path / "ca.pem"
    assert chosen.name_rule is NameRule.SHARED


def test_the_cluster_wide_mode_names_all_missing_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    error = refusal(NONE, group("pxc_encrypt_cluster_traffic=1"), str(tmp_path))
    assert f"{tmp_path}/server-cert.pem and {tmp_path}/server-key.pem do not exist" in str(error)
    assert error.exit_code == ExitCode.MISSING


def test_secure_rsync_admits_exactly_the_other_sides_certificate() -> None:
    joiner, donor = (secure_rsync_files(Path("/p"), role).tls for role in (Role.JOINER, Role.DONOR))
    assert (joiner.certificate, joiner.peer_certificate) == (Path("/p/server.pem"), Path("/p/client.crt"))
    assert (donor.certificate, donor.peer_certificate) == (Path("/p/client.pem"), Path("/p/server.crt"))


def test_sockopt_may_name_the_files() -> None:
    sst = group("sockopt=cert=/c,key=/k,cafile=/a")
    tls = read_settings(sst, choose(sst)).tls
    assert (tls.certificate, tls.key, tls.ca) == (Path("/c"), Path("/k"), Path("/a"))


def test_without_any_certificate_the_error_says_what_to_set() -> None:
    assert "set tcert in [sst]" in str(refusal(NONE))


def test_without_any_ca_nothing_is_trusted() -> None:
    assert "no CA is configured" in str(refusal(group("tcert=/c")))


def test_without_verification_no_ca_is_needed() -> None:
    sst = group("tcert=/c", "sockopt=verify=0")
    assert not read_settings(sst, choose(sst)).tls.verify


def test_an_old_donor_is_never_admitted_without_verification() -> None:
    error = refusal(group("tcert=/c", "sockopt=verify=0", "legacy-donor=1"))
    assert "would together let anyone on the network write into the datadir" in str(error)


def test_ssl_mode_and_verify_must_not_contradict_each_other() -> None:
    sst = group("tcert=/c", "tca=/a", "ssl-mode=VERIFY_IDENTITY", "sockopt=verify=0")
    assert "contradict each other" in str(refusal(sst))


def test_other_settings_have_defaults() -> None:
    assert (settings().streams, settings().legacy_donor) == (4, False)


@pytest.mark.parametrize("value", ["0", "65", "-1", "many", "²"])
def test_a_number_of_streams_that_is_none_is_refused(value: str) -> None:
    assert "expected a number from 1 to 64" in str(refusal(group("tcert=/c", "tca=/a", f"backup-threads={value}")))


@pytest.mark.parametrize("line", ["compress", "compress=gzip", "compress=ZSTD"])
def test_a_compression_that_is_none_of_ours_is_refused_with_those_that_are(line: str) -> None:
    assert "expected none, lz4, zstd" in str(refusal(group("tcert=/c", "tca=/a", line)))


def test_a_donor_sends_fewer_bytes_only_where_it_is_asked_to() -> None:
    asked = settings("tcert=/c", "tca=/a", "compress=zstd", "delta=1")
    assert asked.saving == Saving(compress="zstd", delta=True)
    assert settings("tcert=/c", "tca=/a", "compress=none").saving == Saving()


def test_every_refused_value_is_told_and_not_only_the_first() -> None:
    lines = ("sockopt=nonsense", "ssl-mode=PREFERRED", "legacy-donor=perhaps", "backup-threads=65")
    told = [str(error) for error in refused_values(group(*lines))]
    assert [any(line.partition("=")[0] in text for text in told) for line in lines] == [True] * 4
    assert len(told) == 4


def test_values_that_can_be_used_are_not_refused() -> None:
    assert refused_values(group("sockopt=nodelay", "ssl-mode=VERIFY_CA", "legacy-donor", "backup-threads=64")) == []


def test_an_auth_that_is_no_directory_is_not_shown() -> None:
    request = Request(Role.JOINER, Address("node2"), Path("/d"), auth="sst:password")
    with pytest.raises(SstError) as caught:
        files_of(request, SECURE_RSYNC, NONE, NONE)
    assert "password" not in str(caught.value)
    assert "server.pem" in str(caught.value)


# The way between the nodes.


def test_the_way_is_tcp_unless_transport_names_a_web_socket() -> None:
    assert settings().route.to(Address("node2", 4444)) == TcpEndpoint("node2", 4444)
    assert settings().route.listen is None


@pytest.mark.parametrize(
    ("transport", "host", "shown"),
    [
        ("wss://edge.example/sst/{host}", "node2.my.cluster", "wss://edge.example:443/sst/node2.my.cluster"),
        ("wss://edge.example/sst/{host}", "2001:db8::2", "wss://edge.example:443/sst/2001:db8::2"),
        ("ws://{host}:8080/sst", "node2", "ws://node2:8080/sst"),
        ("ws://{host}/sst", "2001:db8::2", "ws://[2001:db8::2]:80/sst"),
        ("wss://{host}.edge.example/", "node2", "wss://node2.edge.example:443/"),
        ("wss://edge.example/sst", "node2", "wss://edge.example:443/sst"),
    ],
)
def test_the_joiner_s_host_stands_in_the_url(transport: str, host: str, shown: str) -> None:
    assert str(settings(f"transport={transport}").route.to(Address(host))) == shown


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("transport", "has no value"),
        ("transport=edge.example:443", "expected ws://"),
        ("transport=wss://edge.example/{node}", "a character that a URL can't"),
        ("transport=wss://hunter2@edge.example/", "--header"),
        ("listen=:4444", "expected ws://"),
        ("listen=wss://:443/", "listen at ws:// behind it"),
        ("listen=ws://:80/?hunter2", "by its path alone"),
        ("header=hunter2", "expected NAME:VALUE"),
        ("proxy=http://me:hunter2@proxy:1", "expected http://HOST:PORT"),
        ("outer-ca=", "has no value"),
    ],
)
def test_a_way_that_can_t_be_is_refused_by_its_key_without_a_secret(line: str, said: str) -> None:
    sst = group("tcert=/c", "tca=/a", line)
    error = refusal(sst)
    assert error.exit_code == ExitCode.BAD_SETTING
    assert str(error).startswith(f"{line.partition('=')[0]} in [sst]")
    assert said in str(error)
    assert "hunter2" not in str(error)
    assert [str(each) for each in refused_values(sst)] == [str(error)]


def test_what_a_web_socket_needs_besides_comes_from_the_same_group() -> None:
    read = settings("outer-ca=/edge.pem", "header=Authorization: Bearer x", "proxy=http://proxy:3128", "sockopt=pf=ip4")
    assert read.sockets.web == WebSocketOptions((("Authorization", "Bearer x"),), Path("/edge.pem"))
    assert read.sockets.proxy == TcpEndpoint("proxy", 3128)
