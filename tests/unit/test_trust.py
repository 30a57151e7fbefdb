"""What is said of a certificate without a peer is what a handshake with it comes to."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import crypto

from lab import certificates as lab
from pytunnel.tls.context import make_context
from pytunnel.tls.credentials import Credentials, PrivateKey
from pytunnel.tls.errors import CredentialsError, TlsError
from pytunnel.tls.settings import TlsSettings
from pytunnel.tls.trust import find_refusal
from tests.support.handshakes import outcomes, stream_pair

# Nothing else signs with SHA-1.
pytestmark = pytest.mark.filterwarnings("ignore:X509.sign is deprecated")

LIMIT = 20.0  # seconds for any handshake

# Other programs may be content with less: the end that shows a certificate must not refuse it before its peer does.
CARELESS = "ALL:@SECLEVEL=0"

KEYS: dict[str, PrivateKey] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-192": ec.generate_private_key(ec.SECP192R1()),
    "P-224": ec.generate_private_key(ec.SECP224R1()),
    "RSA 2048": rsa.generate_private_key(65537, 2048),
    "RSA 1024": rsa.generate_private_key(65537, 1024),  # noqa: S505 - weak on purpose
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}
CA_KEYS: dict[str, PrivateKey] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "RSA 1024": rsa.generate_private_key(65537, 1024),  # noqa: S505 - weak on purpose
}
USAGES = {
    "none": None,
    "server": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "both": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "mail": (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    "any": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,),
}
NETSCAPE_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")
# DER of bit strings: the number of unused bits, and the bits in one octet.
NETSCAPE_TYPES = {
    "none": None,
    "nothing": b"\x03\x01\x00",
    "client": b"\x03\x02\x07\x80",
    "server": b"\x03\x02\x06\x40",
    "both": b"\x03\x02\x06\xc0",
    "TLS CA": b"\x03\x02\x02\x04",
    "mail CA": b"\x03\x02\x01\x02",
    "both and CA": b"\x03\x02\x02\xc4",
}
KEY_USAGES = ("digital_signature", "key_encipherment", "key_agreement", "key_cert_sign")
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Shape:
    """What makes the difference between certificates; None leaves an extension out."""

    key: str = "P-256"
    extended: str = "none"
    usage: frozenset[str] | None = None
    authority: bool | None = False
    begin: int = -1
    end: int = 1
    digest: str = "sha256"
    netscape: str = "none"


netscape_types = st.just("none") | st.sampled_from(sorted(NETSCAPE_TYPES))
shapes = st.builds(
    Shape,
    key=st.sampled_from(sorted(KEYS)),
    extended=st.sampled_from(sorted(USAGES)),
    usage=st.none() | st.frozensets(st.sampled_from(KEY_USAGES), min_size=1),
    authority=st.sampled_from([None, True, False]),
    begin=st.sampled_from([-3, -3, -3, 2]),
    end=st.sampled_from([3, 3, 3, -1]),
    digest=st.sampled_from(["sha256", "sha256", "sha1"]),
    netscape=netscape_types,
)
ca_shapes = st.builds(
    Shape,
    key=st.sampled_from(sorted(CA_KEYS)),
    extended=st.sampled_from(sorted(USAGES)),
    usage=st.none() | st.frozensets(st.sampled_from(KEY_USAGES), min_size=1),
    authority=st.sampled_from([None, True, True, False]),
    begin=st.sampled_from([-3, -3, -3, 2]),
    end=st.sampled_from([3, 3, 3, -1]),
    digest=st.sampled_from(["sha256", "sha1"]),
    netscape=netscape_types,
)


@dataclass(frozen=True, slots=True)
class Made:
    certificate: x509.Certificate
    key: PrivateKey


def make(name: str, shape: Shape, key: PrivateKey, issuer: Made | None = None) -> Made:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        issuer.certificate.subject if issuer else subject,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        NOW + min(shape.begin, shape.end - 1) * DAY,
        NOW + shape.end * DAY,
    )
    if shape.authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(shape.authority, None), critical=True)
    if (extended := USAGES[shape.extended]) is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if shape.usage is not None:
        others = ("content_commitment", "data_encipherment", "crl_sign", "encipher_only", "decipher_only")
        bits = {usage: usage in shape.usage for usage in KEY_USAGES} | dict.fromkeys(others, False)
        builder = builder.add_extension(x509.KeyUsage(**bits), critical=True)
    if (netscape := NETSCAPE_TYPES[shape.netscape]) is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(NETSCAPE_TYPE, netscape), critical=False)
    signer = issuer.key if issuer else key
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        return Made(builder.sign(signer, None), key)
    return Made(sign(builder, signer, shape.digest), key)


def sign(builder: x509.CertificateBuilder, key: PrivateKey, digest: str) -> x509.Certificate:
    """Sign, also with digests that cryptography no longer signs with."""
    signed = crypto.X509.from_cryptography(builder.sign(key, hashes.SHA256()))
    signed.sign(crypto.PKey.from_cryptography_key(key), digest)
    return signed.to_cryptography()


PEER = lab.self_signed("peer")
PEER_MADE = Made(PEER.certificate, PEER.key)


def handshake_refuses(own: Made, chain: Sequence[Made], trusted: Sequence[Made]) -> bool:
    """Whether an end that trusts `trusted` refuses `own`, as a server or as a client."""
    careful = make_context(
        TlsSettings(), Credentials(PEER.certificate, (), PEER.key, tuple(item.certificate for item in trusted))
    )
    careless = make_context(
        TlsSettings(ciphers=CARELESS),
        Credentials(own.certificate, tuple(item.certificate for item in chain), own.key, (PEER.certificate,)),
    )

    async def shake() -> bool:
        with trio.fail_after(LIMIT):
            as_server = await outcomes(*stream_pair(careless, careful))
            as_client = await outcomes(*stream_pair(careful, careless))
        return isinstance(as_server[1], TlsError) or isinstance(as_client[0], TlsError)

    return trio.run(shake)


def is_refused(own: Made, chain: Sequence[Made], trusted: Sequence[Made]) -> bool:
    refusal = find_refusal(
        own.certificate, [item.certificate for item in chain], [item.certificate for item in trusted]
    )
    return refusal is not None


@settings(max_examples=150, deadline=None)
@given(shapes)
def test_a_self_signed_certificate_of_the_bundle_is_judged_as_in_a_handshake(shape: Shape) -> None:
    own = make("node", shape, KEYS[shape.key])
    assert is_refused(own, [], [own]) == handshake_refuses(own, [], [own])


@settings(max_examples=150, deadline=None)
@given(shapes, ca_shapes)
def test_a_ca_s_certificate_is_judged_as_in_a_handshake(shape: Shape, ca_shape: Shape) -> None:
    ca = make("CA", ca_shape, CA_KEYS[ca_shape.key])
    own = make("node", shape, KEYS[shape.key], ca)
    assert is_refused(own, [], [ca]) == handshake_refuses(own, [], [ca])


@settings(max_examples=100, deadline=None)
@given(shapes, ca_shapes, ca_shapes, st.booleans())
def test_a_chain_is_judged_as_in_a_handshake(shape: Shape, middle: Shape, top: Shape, shown: bool) -> None:
    root = make("root", top, CA_KEYS[top.key])
    ca = make("CA", middle, KEYS["RSA 2048"], root)
    own = make("node", shape, KEYS[shape.key], ca)
    chain = [ca] if shown else []
    assert is_refused(own, chain, [root]) == handshake_refuses(own, chain, [root])


@pytest.mark.parametrize("netscape", sorted(NETSCAPE_TYPES))
def test_the_type_that_old_recipes_set_is_judged_as_in_a_handshake(netscape: str) -> None:
    own = make("node", Shape(netscape=netscape), KEYS["P-256"])
    assert is_refused(own, [], [own]) == handshake_refuses(own, [], [own])


@pytest.mark.parametrize("netscape", sorted(NETSCAPE_TYPES))
@pytest.mark.parametrize("authority", [True, None])
def test_a_ca_s_type_that_old_recipes_set_is_judged_as_in_a_handshake(netscape: str, authority: bool | None) -> None:
    ca = make("CA", Shape(netscape=netscape, authority=authority), CA_KEYS["P-256"])
    own = make("node", Shape(), KEYS["P-256"], ca)
    assert is_refused(own, [], [ca]) == handshake_refuses(own, [], [ca])


@pytest.mark.parametrize("name", ["CA", "node"])
@pytest.mark.parametrize("with_ca", [True, False])
def test_a_name_like_the_ca_s_is_judged_as_in_a_handshake(name: str, with_ca: bool) -> None:
    ca = make("CA", Shape(authority=True), CA_KEYS["P-256"])
    own = make(name, Shape(), KEYS["P-256"], ca)
    trusted = [ca] if with_ca else [PEER_MADE]
    assert is_refused(own, [], trusted) == handshake_refuses(own, [], trusted)


def test_a_trusted_certificate_that_openssl_can_t_read_is_told_by_its_serial_number() -> None:
    readable = PEER.certificate.public_bytes(serialization.Encoding.DER)
    broken = x509.load_der_x509_certificate(readable.replace(b"peer", b"\xffeer"))
    with pytest.raises(CredentialsError, match=f"the serial number {PEER.certificate.serial_number:X}; take it out"):
        find_refusal(PEER.certificate, [], [broken])
