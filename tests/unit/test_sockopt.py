"""What each of socat's words means to us, and which ones are refused."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sockopt.words import FOREVER, SockOpt, SockoptError, apply_to_sockets, apply_to_tls, parse_sockopt
from pytunnel.tls.settings import TlsSettings
from pytunnel.transport.options import Retry, SocketOptions

DEPLOYED = (
    "cipher=!SSLv2:kEECDH:kRSA:kEDH:kPSK:+3DES:!aNULL:!eNULL:!MD5:!EXP:!RC4:!SEED:!IDEA:!DES:!SSLv3:!TLSv1,pf=ip6"
)


def refusal(text: str) -> str:
    with pytest.raises(SockoptError) as caught:
        parse_sockopt(text)
    assert caught.value.exit_code == 22
    return str(caught.value)


def network(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return (ipaddress.ip_network(text),)


@pytest.mark.parametrize("text", [DEPLOYED, "," + DEPLOYED])
def test_a_deployed_cipher_list_with_ipv6_alone_does_what_it_says(text: str) -> None:
    asked = parse_sockopt(text)
    assert asked == SockOpt(ciphers=DEPLOYED.removeprefix("cipher=").removesuffix(",pf=ip6"), family=socket.AF_INET6)
    assert apply_to_tls(asked, TlsSettings()) == TlsSettings(ciphers=asked.ciphers)
    assert apply_to_sockets(asked, SocketOptions()) == SocketOptions(family=socket.AF_INET6)


def test_no_words_ask_for_nothing() -> None:
    asked = parse_sockopt("")
    assert (apply_to_tls(asked, TlsSettings()), apply_to_sockets(asked, SocketOptions())) == (
        TlsSettings(),
        SocketOptions(),
    )


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("verify=0", TlsSettings(verify=False)),
        ("verify", TlsSettings(verify=True)),
        ("openssl-verify=1", TlsSettings(verify=True)),
        ("ciphers=HIGH", TlsSettings(ciphers="HIGH")),
        ("cipherlist=HIGH", TlsSettings(ciphers="HIGH")),
        ("openssl-cipherlist=HIGH", TlsSettings(ciphers="HIGH")),
        ("commonname=node1", TlsSettings(peer_names=("node1",))),
        ("cn=node1", TlsSettings(peer_names=("node1",))),
        ("cafile=/ca.pem", TlsSettings(ca=Path("/ca.pem"))),
        ("capath=/ca", TlsSettings(ca=Path("/ca"))),
        ("cert=/a,key=/b", TlsSettings(certificate=Path("/a"), key=Path("/b"))),
        ("CERTIFICATE='/a,b'", TlsSettings(certificate=Path("/a,b"))),
        ("dhparam=/dh", TlsSettings(dh_parameters=Path("/dh"))),
        ("dhparams=/dh", TlsSettings(dh_parameters=Path("/dh"))),
        ("no-sni", TlsSettings(server_name="")),
        ("nosni=0", TlsSettings(server_name=None)),
        ("snihost=front", TlsSettings(server_name="front")),
        ("method=SSL23", TlsSettings()),
        ("method=TLSv1.2", TlsSettings(minimum="1.2", maximum="1.2")),
        ("method=tls1.3", TlsSettings(minimum="1.3", maximum="1.3")),
        ("openssl-min-proto-version=TLS1.3", TlsSettings(minimum="1.3")),
        ("min-version=TLSv1.3", TlsSettings(minimum="1.3")),
        ("openssl-max-proto-version=TLS1.2", TlsSettings(maximum="1.2")),
        ("compress=none,fips=0", TlsSettings()),
    ],
)
def test_words_about_tls(text: str, settings: TlsSettings) -> None:
    assert apply_to_tls(parse_sockopt(text), TlsSettings()) == settings


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("pf=ip4", SocketOptions(family=socket.AF_INET)),
        ("pf=IPv4", SocketOptions(family=socket.AF_INET)),
        ("pf=inet", SocketOptions(family=socket.AF_INET)),
        ("pf=2", SocketOptions(family=socket.AF_INET)),
        ("protocol-family=inet6", SocketOptions(family=socket.AF_INET6)),
        ("pf=10", SocketOptions(family=socket.AF_INET6)),
        ("pf=0x0a", SocketOptions(family=socket.AF_INET6)),
        ("bind=node1", SocketOptions(bind_host="node1")),
        ("bind=10.0.0.1:4444", SocketOptions(bind_host="10.0.0.1", bind_port=4444)),
        ("bind=:4444", SocketOptions(bind_port=4444)),
        ("bind=[::1]:4444", SocketOptions(bind_host="::1", bind_port=4444)),
        ("bind=[::1]", SocketOptions(bind_host="::1")),
        ("bind=::1", SocketOptions(bind_host="::1")),
        ("reuseaddr=0,nodelay=0", SocketOptions(reuse_address=False, no_delay=False)),
        ("reuseaddr,tcp-nodelay", SocketOptions(reuse_address=True, no_delay=True)),
        (
            "keepalive,keepidle=10,keepintvl=5,keepcnt=3",
            SocketOptions(keep_alive=True, keep_idle=10, keep_interval=5, keep_count=3),
        ),
        ("sndbuf=0x10000,so-rcvbuf=65536", SocketOptions(send_buffer=65536, receive_buffer=65536)),
        ("connect-timeout=2.5", SocketOptions(connect_timeout=2.5)),
        ("retry=3,interval=.5", SocketOptions(retry=Retry(attempts=3, interval=0.5))),
        ("retry=3,forever", SocketOptions(retry=Retry(attempts=FOREVER))),
        ("forever=0", SocketOptions()),
        ("backlog=64", SocketOptions(backlog=64)),
        ("range=10.1.0.0/16", SocketOptions(allowed_peers=network("10.1.0.0/16"))),
        ("range=10.1.2.3/16", SocketOptions(allowed_peers=network("10.1.0.0/16"))),
        ("range=10.1.0.0:255.255.0.0", SocketOptions(allowed_peers=network("10.1.0.0/16"))),
        ("range=[fd00::]/8", SocketOptions(allowed_peers=network("fd00::/8"))),
    ],
)
def test_words_about_sockets(text: str, options: SocketOptions) -> None:
    assert apply_to_sockets(parse_sockopt(text), SocketOptions()) == options


def test_what_a_text_does_not_say_stays_as_it_was() -> None:
    settings = TlsSettings(
        certificate=Path("/a"),
        key=Path("/b"),
        ca=Path("/ca"),
        verify=False,
        peer_names=("n",),
        ciphers="HIGH",
        minimum="1.3",
        maximum="1.3",
        dh_parameters=Path("/dh"),
        server_name="s",
    )
    options = SocketOptions(socket.AF_INET, "h", 1, False, False, True, 1, 2, 3, 4, 5, 6.0, Retry(7, 8.0), 9, ())
    asked = parse_sockopt("nodelay")
    assert apply_to_tls(asked, settings) == settings
    assert apply_to_sockets(parse_sockopt("no-sni"), options) == options


def test_a_certificate_does_not_keep_the_key_of_another() -> None:
    settings = TlsSettings(certificate=Path("/a"), key=Path("/a.key"))
    assert apply_to_tls(parse_sockopt("cert=/b"), settings) == TlsSettings(certificate=Path("/b"))


def test_a_minimum_below_tls_1_2_is_raised_and_noted() -> None:
    asked = parse_sockopt("openssl-min-proto-version=TLS1.1")
    assert asked.minimum == "1.2"
    assert asked.notes == ("sockopt: the minimum TLS1.1 is raised to TLS1.2: pytunnel speaks TLS 1.2 and later",)


@pytest.mark.parametrize(
    "text", ["method=TLS1", "method=SSLv3", "max-version=TLS1.1", "openssl-max-proto-version=TLSv1"]
)
def test_a_maximum_below_tls_1_2_is_refused(text: str) -> None:
    assert "pytunnel speaks TLS 1.2 and later" in refusal(text)


def test_a_minimum_above_the_maximum_is_refused() -> None:
    assert "leave no version" in refusal("min-version=TLS1.3,max-version=TLS1.2")


def test_a_maximum_below_the_minimum_of_the_settings_is_refused() -> None:
    with pytest.raises(SockoptError, match="leave no version"):
        apply_to_tls(parse_sockopt("max-version=TLS1.2"), TlsSettings(minimum="1.3"))


@pytest.mark.parametrize("text", ["compress=auto", "openssl-compress="])
def test_compression_is_refused_with_the_reason(text: str) -> None:
    assert "gives secrets away" in refusal(text)


@pytest.mark.parametrize("text", ["fips", "fips=1"])
def test_fips_mode_is_refused_with_what_to_do(text: str) -> None:
    assert "enable it in the system's OpenSSL configuration" in refusal(text)


@pytest.mark.parametrize("word", ["fork", "su", "proxyport", "crnl", "sni", "so_reuseaddr", " pf", "Foo"])
def test_a_word_without_meaning_here_is_named(word: str) -> None:
    assert repr(word) in refusal(f"verify=1,{word}=x,pf=ip6")


def test_a_misspelt_word_is_answered_with_near_ones() -> None:
    assert "did you mean cafile" in refusal("caflie=/ca.pem")


def test_a_word_like_no_other_is_answered_with_all_words() -> None:
    assert "pytunnel takes verify, cipher, commonname" in refusal("xyzzy")


def test_a_word_we_do_otherwise_is_answered_with_the_other_way() -> None:
    assert "serves many connections at once by itself" in refusal("fork")


@pytest.mark.parametrize(
    "word", ["cipher", "cert", "key", "cafile", "commonname", "bind", "pf", "range", "sndbuf", "retry", "interval"]
)
def test_a_word_that_lacks_its_value_is_refused(word: str) -> None:
    assert f"{word} needs a value" in refusal(word)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("verify=yes", "verify='yes' is not possible; expected 0 or 1"),
        ("cert=", "expected a value after ="),
        ("pf=ip", "expected ip4 or ip6"),
        ("pf=1", "expected ip4 or ip6"),
        ("min-version=1.2", "expected TLS1.2 or TLS1.3"),
        ("method=DTLS1.2", "expected TLS1.2 or TLS1.3"),
        ("bind=", "expected an address"),
        ("bind=[node1]:1", "expected an address"),
        ("bind=node1:http", "expected an address"),
        ("bind=node1:65536", "expected a whole number from 0 to 65535"),
        ("keepidle=0", "from 1 to 32767"),
        ("keepcnt=128", "from 1 to 127"),
        ("sndbuf=1k", "expected a whole number"),
        ("retry=-1", "expected a whole number from 0"),
        ("connect-timeout=0", "0.001 or more"),
        ("range=10.0.0.0", "expected a network"),
        ("range=10.0.0.0/33", "expected a network"),
        ("range=10.0.0.0:255.0.255.0", "expected a network"),
        ("range=localhost/32", "expected a network"),
        ("range=::1/128", "expected a network"),
        ("cert='/a", "a ' is missing"),
    ],
)
def test_a_bad_value_is_refused_with_what_was_expected(text: str, expected: str) -> None:
    assert expected in refusal(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("verify=1,verify=0", "verify contradicts verify"),
        ("cert=/a,pf=ip6,certificate=/b", "certificate contradicts cert"),
        ("cafile=/a,capath=/b", "capath contradicts cafile"),
        ("no-sni,snihost=a", "snihost contradicts no-sni"),
        ("min-version=TLS1.3,method=TLS1.2", "method contradicts min-version"),
    ],
)
def test_words_that_contradict_each_other_are_refused(text: str, pair: str) -> None:
    assert pair in refusal(text)


def test_a_word_said_twice_alike_counts_once() -> None:
    assert parse_sockopt("min-version=TLS1,verify=0,min-version=TLS1,verify=0") == parse_sockopt(
        "min-version=TLS1,verify=0"
    )


@pytest.mark.parametrize("text", ["pf=ip6,bind=127.0.0.1", "bind=[::1]:80,pf=ip4", "pf=ip6,range=10.0.0.0/8"])
def test_an_address_of_another_family_than_pf_is_refused(text: str) -> None:
    assert "but pf asks for IPv" in refusal(text)


def test_an_empty_common_name_is_refused_where_names_are_checked() -> None:
    assert "pytunnel always checks it" in refusal("commonname=''")


def test_an_empty_common_name_goes_with_verify_off() -> None:
    assert parse_sockopt("verify=0,commonname=").verify is False


def test_a_common_name_without_verification_is_noted() -> None:
    assert parse_sockopt("commonname=node1,verify=0").notes == (
        "sockopt: commonname='node1' is not checked, because verify=0 checks nothing",
    )


words = st.sampled_from(
    ["verify", "commonname", "cert", "pf", "bind", "range", "retry", "interval", "method", "nodelay", "x"]
)


@given(st.lists(st.tuples(words, st.text())))
def test_any_text_is_understood_or_refused_in_one_line(pairs: list[tuple[str, str]]) -> None:
    text = ",".join(f"{word}={value}" for word, value in pairs)
    try:
        said = parse_sockopt(text).notes
    except SockoptError as error:
        said = (str(error),)
    assert all(line.isprintable() for line in said)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_any_address_can_be_bound(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    asked = parse_sockopt(f"bind={host}:{port}")
    assert (asked.bind_host, asked.bind_port) == (str(address), port)
