"""The proof of a key: its content, its lifetime, its single use, and forgeries."""

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from django.core.cache import cache
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.forgery import encode, forge, hs
from tests.provers import Prover
from tests.server import ROOT
from tokens.exceptions import NonceRequired, ProofNotValid, ReplayStoreUnreachable
from tokens.jose import compact, dpop, keys
from tokens.jose.dpop import Proof, Table, Target

pytestmark = pytest.mark.usefixtures("clock")

START = NOW = 1_800_000_000  # the first second of a minute
URL = "https://example.com/api/me/"
TARGET = Target("https://example.com", "/api/me/")
TOKEN = "an.access.token"

holder = Prover()
edwards = Prover("EdDSA")


@pytest.fixture
def shared_cache(settings: Settings, tmp_path: Path) -> None:
    """A cache that all processes share."""
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}


def verify(text: str, **options: Any) -> Proof:
    return dpop.verify(text, "GET", [TARGET], **{"access_token": TOKEN, **options})


def proof(prover: Prover = holder, **claims: Any) -> str:
    return prover.prove("GET", URL, TOKEN, **claims)


def written(header: Any = None, claims: Any = None, prover: Prover = holder) -> str:
    """Sign the two segments: bytes unchanged, and by default valid ones."""
    header = prover.header() if header is None else header
    claims = prover.claims("GET", URL, TOKEN) if claims is None else claims
    return forge(header, claims, prover.sign)


def with_header(prover: Prover = holder, **changes: Any) -> str:
    return written(prover.header(**changes), prover=prover)


def with_jwk(prover: Prover = holder, **changes: Any) -> str:
    jwk = {name: value for name, value in {**prover.jwk, **changes}.items() if value is not None}
    return with_header(prover, jwk=jwk)


def signed_by(sign: Callable[[bytes], bytes], alg: str, jwk: Any = None) -> str:
    return forge(holder.header(alg=alg, jwk=jwk or holder.jwk), holder.claims("GET", URL, TOKEN), sign)


def segments_of(text: str) -> list[str]:
    return text.split(".")


def signature_of(text: str) -> bytes:
    return compact.decode(segments_of(text)[2])


def with_signature(text: str, signature: bytes) -> str:
    return ".".join([*segments_of(text)[:2], encode(signature)])


def number(value: int, length: int = 32) -> str:
    return encode(value.to_bytes(length, "big"))


# Valid proofs


@pytest.mark.parametrize("alg", dpop.ALGORITHMS)
def test_proof_of_each_algorithm_is_accepted(alg: str) -> None:
    prover = Prover(alg)
    assert verify(proof(prover, jti="once")) == Proof(prover.jkt, "once", "GET", TARGET, NOW + 61)


def test_thumbprint_matches_the_rfc() -> None:
    """RFC 8037, appendix A.3."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    _, _, thumbprint = dpop._key("EdDSA", jwk)
    assert thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_example_in_the_docs_is_good() -> None:
    [code] = re.findall(r"^```python\n(from .*?)^```$", (ROOT / "docs/dpop.md").read_text(), re.DOTALL | re.MULTILINE)
    shown: dict[str, Any] = {}
    exec(code, shown)
    full = verify(shown["prove"]("GET", f"{URL}?page=2", TOKEN, dpop.newest_nonce()), nonce_required=True)
    bare = verify(shown["prove"]("GET", URL), access_token=None)
    assert full.jkt == bare.jkt


def test_example_of_the_rfc_is_accepted(clock: TimeMachineFixture) -> None:
    """RFC 9449, section 4.1; its thumbprint is in section 6.1."""
    clock.move_to(1_562_262_616, tick=False)
    text = (
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscE"
        "JoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
        ".eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwia"
        "WF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
    )
    found = dpop.verify(text, "POST", [Target("https://server.example.com", "/token")])
    assert (found.jkt, found.jti) == ("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "-BwC3ESc6acc2lTc")


def test_unknown_members_of_key_and_claims_are_ignored() -> None:
    jwk = {**holder.jwk, "kid": "1", "use": "enc", "alg": "none", "key_ops": ["encrypt"], "x5u": "https://evil.example"}
    assert verify(written(holder.header(jwk=jwk))).jkt == holder.jkt
    assert verify(proof(exp=1, nbf=NOW + 99, iss="somebody", aud=[])).jkt == holder.jkt


def test_ath_is_required_only_with_an_access_token() -> None:
    for text in (holder.prove("GET", URL), proof()):
        assert verify(text, access_token=None).jkt == holder.jkt


@pytest.mark.parametrize("jti", ["a", "a" * 128, "ü" * 128, " ", "\ud800"])
def test_jti_has_at_most_128_characters(jti: str) -> None:
    found = verify(proof(jti=jti))
    dpop.spend(found)
    assert found.jti == jti


def proof_of(length: int) -> str:
    padded = (
        written(holder.header(jwk={**holder.jwk, "kid": "x" * few}), holder.claims("GET", URL, TOKEN, pad="x" * many))
        for many in range(2500, 3000)
        for few in range(3)
    )
    return next(text for text in padded if len(text) == length)


def test_proof_has_at_most_4096_bytes() -> None:
    assert verify(proof_of(4096)).jkt == holder.jkt
    with pytest.raises(ProofNotValid):
        verify(proof_of(4097))


# Forgeries


def stray(text: str) -> str:
    """Set meaningless bits of the last character: 2 after 32 bytes, 4 after 64."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]


def small_order(point: bytes) -> str:
    """Make the signature that anybody can make for such a key: R is the neutral element, S is 0."""
    return signed_by(lambda _: b"\1" + b"\0" * 63, "EdDSA", {"kty": "OKP", "crv": "Ed25519", "x": encode(point)})


def malleated() -> str:
    """S and S + L both verify, unless S is checked to be below the group's order (RFC 8032, section 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    text = proof(edwards)
    signature = signature_of(text)
    scalar = int.from_bytes(signature[32:], "little") + order
    return with_signature(text, signature[:32] + scalar.to_bytes(32, "little"))


def der(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def raw(signature: bytes, length: int = 32) -> bytes:
    return b"".join(value.to_bytes(length, "big") for value in decode_dss_signature(signature))


def sha384_proof() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": number(point.x), "y": number(point.y)}
    return signed_by(lambda message: raw(key.sign(message, ec.ECDSA(SHA384()))), "ES256", jwk)


def p384_proof() -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    point = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-384", "x": number(point.x, 48), "y": number(point.y, 48)}
    return signed_by(lambda message: raw(key.sign(message, ec.ECDSA(SHA256())), 48), "ES256", jwk)


def ed448_proof() -> str:
    key = Ed448PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed448", "x": encode(key.public_key().public_bytes_raw())}
    return signed_by(key.sign, "EdDSA", jwk)


def rsa_proof(alg: str) -> str:
    key = rsa.generate_private_key(65537, 2048)
    jwk = {"kty": "RSA", "n": number(key.public_key().public_numbers().n, 256), "e": "AQAB"}
    return signed_by(lambda message: key.sign(message, PKCS1v15(), SHA256()), alg, jwk)


FORGERIES: dict[str, Callable[[], str]] = {
    # no compact JWS
    "nothing": lambda: "",
    "two dots": lambda: "..",
    "two segments": lambda: proof().rpartition(".")[0],
    "four segments": lambda: f"{proof()}.AAAA",
    "no header": lambda: "." + proof().partition(".")[2],
    "no signature": lambda: proof().rpartition(".")[0] + ".",
    "two proofs, as a server joins two headers": lambda: f"{proof()},{proof()}",
    "two proofs, joined with a space": lambda: f"{proof()}, {proof()}",
    "padding": lambda: f"{proof()}==",
    "space at the end": lambda: f"{proof()} ",
    "line break at the end": lambda: f"{proof()}\n",
    "standard alphabet": lambda: proof()[:-1] + "+",
    "no ASCII": lambda: proof()[:-1] + "é",
    "header of one letter": lambda: "A." + proof().partition(".")[2],
    "as JSON": lambda: json.dumps({"protected": "", "payload": "", "signature": ""}),
    # not the header of a proof
    "header no JSON": lambda: written(b"{"),
    "header no UTF-8": lambda: written(b'{"typ":"\xff"}'),
    "header a list": lambda: written([]),
    "header null": lambda: written(b"null"),
    "header nested deeply": lambda: written(b"[" * 2500),
    "no typ": lambda: with_header(typ=None),
    "typ of any JWT": lambda: with_header(typ="JWT"),
    "typ of an access token": lambda: with_header(typ="at+jwt"),
    "typ in capitals": lambda: with_header(typ="DPOP+JWT"),
    "typ a list": lambda: with_header(typ=["dpop+jwt"]),
    "header with a key's name": lambda: with_header(kid="1"),
    "header with crit": lambda: with_header(crit=["exp"]),
    "header with b64": lambda: with_header(b64=False, crit=["b64"]),
    "header with a certificate": lambda: with_header(x5c=["AAAA"]),
    "header with jku": lambda: with_header(jku="https://evil.example/jwks.json"),
    "alg twice": lambda: written(json.dumps(holder.header()).encode()[:-1] + b',"alg":"ES256"}'),
    "kty twice, within the key": lambda: written(
        json.dumps(holder.header()).encode().replace(b'"kty"', b'"kty":"EC","kty"')
    ),
    # another algorithm
    "no alg": lambda: with_header(alg=None),
    "alg none": lambda: signed_by(lambda _: b"", "none") + "AA",
    "alg none, well signed": lambda: with_header(alg="none"),
    "alg in small letters": lambda: with_header(alg="es256"),
    "alg a list": lambda: with_header(alg=["ES256"]),
    "alg of another curve": lambda: with_header(alg="ES384"),
    "alg of the other kind of key": lambda: with_header(alg="EdDSA"),
    "P-256 for an Ed25519 key": lambda: with_header(edwards, alg="ES256"),
    "Ed448": lambda: with_header(edwards, alg="Ed448"),
    "HMAC with the public key": lambda: signed_by(hs(holder.jwk["x"].encode()), "HS256"),
    "HMAC with a key in the header": lambda: signed_by(hs(b"k" * 32), "HS256", {"kty": "oct", "k": encode(b"k" * 32)}),
    "RSA": lambda: rsa_proof("RS256"),
    "an RSA key as ES256": lambda: rsa_proof("ES256"),
    # no key
    "no jwk": lambda: with_header(jwk=None),
    "jwk a thumbprint": lambda: with_header(jwk=holder.jkt),
    "jwk a list": lambda: with_header(jwk=[holder.jwk]),
    "jwk empty": lambda: with_header(jwk={}),
    "private key of P-256": lambda: with_jwk(d=number(1)),
    "private key of Ed25519": lambda: with_jwk(edwards, d=number(1)),
    "private member that is null": lambda: written(json.dumps(holder.header()).encode()[:-2] + b',"d":null}}'),
    "private member of RSA": lambda: with_jwk(p=number(3)),
    "secret member": lambda: with_jwk(k=number(1)),
    "curve P-384": p384_proof,
    "secp256k1": lambda: with_jwk(crv="secp256k1"),
    "Ed448 key": ed448_proof,
    "X25519": lambda: with_jwk(edwards, crv="X25519"),
    "no kty": lambda: with_jwk(kty=None),
    "no crv": lambda: with_jwk(crv=None),
    "no y": lambda: with_jwk(y=None),
    "x a number": lambda: with_jwk(x=1),
    "x empty": lambda: with_jwk(x=""),
    "x padded": lambda: with_jwk(x=holder.jwk["x"] + "="),
    "x with a leading zero": lambda: with_jwk(x=number(int.from_bytes(compact.decode(holder.jwk["x"]), "big"), 33)),
    "x of 31 bytes": lambda: with_jwk(edwards, x=number(1, 31)),
    "x with stray bits": lambda: with_jwk(edwards, x=stray(edwards.jwk["x"])),
    "x no base64": lambda: with_jwk(x="*" * 43),
    "x no ASCII": lambda: with_jwk(x="é" * 43),
    "point off the curve": lambda: with_jwk(y=number(1)),
    "point at infinity": lambda: with_jwk(x=number(0), y=number(0)),
    "coordinate past the field": lambda: with_jwk(x=number(2**256 - 1)),
    "no point of edwards25519": lambda: with_jwk(edwards, x=encode(b"\2" + b"\0" * 31)),
    "key of order 1, which signs everything": lambda: small_order(b"\1" + b"\0" * 31),
    "key of order 1, written another way": lambda: small_order((2**255 - 18).to_bytes(32, "little")),
    "key of order 2": lambda: small_order((2**255 - 20).to_bytes(32, "little")),
    # another signature
    "claims changed": lambda: ".".join([segments_of(proof())[0], encode({"htm": "GET"}), segments_of(proof())[2]]),
    "signature of another proof": lambda: with_signature(proof(), signature_of(proof())),
    "another key": lambda: with_header(jwk=Prover().jwk),
    "signature in DER": lambda: with_signature(text := proof(), der(signature_of(text))),
    "signature of zeros": lambda: with_signature(proof(), b"\0" * 64),
    "signature one byte short": lambda: with_signature(text := proof(), signature_of(text)[:-1]),
    "signature one byte long": lambda: with_signature(text := proof(), signature_of(text) + b"\0"),
    "signature with stray bits": lambda: stray(proof()),
    "signature over SHA-384": sha384_proof,
    "Ed25519 signature plus the order": malleated,
    # other claims
    "claims no JSON": lambda: written(claims=b"{"),
    "claims a list": lambda: written(claims=b"[]"),
    "claims nested deeply": lambda: written(claims=b"[" * 2500),
    "number too long": lambda: written(claims=b'{"iat":' + b"1" * 2500 + b"}"),
    "jti twice": lambda: written(claims=json.dumps(holder.claims("GET", URL, TOKEN)).encode()[:-1] + b',"jti":"a"}'),
    "no jti": lambda: proof(jti=None),
    "jti empty": lambda: proof(jti=""),
    "jti too long": lambda: proof(jti="a" * 129),
    "jti a number": lambda: proof(jti=1),
    "jti a list": lambda: proof(jti=["a"]),
    "no htm": lambda: proof(htm=None),
    "another method": lambda: proof(htm="POST"),
    "method in small letters": lambda: proof(htm="get"),
    "method a list": lambda: proof(htm=["GET"]),
    "no iat": lambda: proof(iat=None),
    "iat a text": lambda: proof(iat=str(NOW)),
    "iat a fraction": lambda: proof(iat=NOW + 0.5),
    "iat a whole number with a point": lambda: proof(iat=float(NOW)),
    "iat true": lambda: proof(iat=True),
    "iat no number": lambda: proof(iat=float("nan")),
    "no ath": lambda: proof(ath=None),
    "ath of another token": lambda: holder.prove("GET", URL, "another"),
    "ath in hexadecimal": lambda: proof(ath=hashlib.sha256(TOKEN.encode()).hexdigest()),
    "ath padded": lambda: proof(ath=encode(hashlib.sha256(TOKEN.encode()).digest()) + "="),
    "ath a list": lambda: proof(ath=[encode(hashlib.sha256(TOKEN.encode()).digest())]),
    "the token itself": lambda: proof(ath=TOKEN),
    "nonce a number": lambda: proof(nonce=1),
    "nonce null": lambda: written(claims={**holder.claims("GET", URL, TOKEN), "nonce": None}),
    "nonce a list": lambda: proof(nonce=[dpop.newest_nonce()]),
    # another URL
    "no htu": lambda: proof(htu=None),
    "htu empty": lambda: proof(htu=""),
    "htu a list": lambda: proof(htu=[URL]),
    "htu a path": lambda: proof(htu="/api/me/"),
    "htu without scheme": lambda: proof(htu="//example.com/api/me/"),
    "another host": lambda: proof(htu="https://evil.example/api/me/"),
    "host beneath": lambda: proof(htu="https://api.example.com/api/me/"),
    "another path": lambda: proof(htu="https://example.com/api/sessions/"),
    "path without its slash": lambda: proof(htu="https://example.com/api/me"),
    "path in capitals": lambda: proof(htu="https://example.com/API/me/"),
    "path encoded twice": lambda: proof(htu="https://example.com/api/%256De/"),
    "another scheme": lambda: proof(htu="http://example.com/api/me/"),
    "another port": lambda: proof(htu="https://example.com:8443/api/me/"),
    "port of the other scheme": lambda: proof(htu="https://example.com:80/api/me/"),
    "port too great": lambda: proof(htu="https://example.com:65536/api/me/"),
    "a user": lambda: proof(htu="https://ann@example.com/api/me/"),
    "a user and a password": lambda: proof(htu="https://ann:secret@example.com/api/me/"),
    "an empty user": lambda: proof(htu="https://@example.com/api/me/"),
    "the host as a user": lambda: proof(htu="https://example.com@evil.example/api/me/"),
    "a line break in the host": lambda: proof(htu="https://exa\nmple.com/api/me/"),
    "a space before": lambda: proof(htu=" https://example.com/api/me/"),
    "an open bracket": lambda: proof(htu="https://[::1/api/me/"),
    "a lone surrogate": lambda: proof(htu="https://example.com/api/me/\ud800"),
}


@pytest.mark.parametrize("forge_one", FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_proof_is_refused(forge_one: Callable[[], str]) -> None:
    text = forge_one()
    with pytest.raises(ProofNotValid):
        verify(text)
    with pytest.raises(ProofNotValid):
        verify(text, nonce_required=True)


def test_low_order_key_is_refused() -> None:
    """Only the list of such keys refuses it."""
    protected, claims, signature = small_order(b"\1" + b"\0" * 31).split(".")
    key = Ed25519PublicKey.from_public_bytes(b"\1" + b"\0" * 31)
    key.verify(compact.decode(signature), f"{protected}.{claims}".encode())


# The target of the call


@pytest.mark.parametrize(
    "htu",
    [
        "HTTPS://EXAMPLE.COM/api/me/",
        "https://example.com:443/api/me/",
        "https://example.com:/api/me/",
        "https://example.com/api/me/?page=2",
        "https://example.com/api/me/#part",
        "https://example.com/api/me/?next=https://ann@evil.example",
        "https://example.com/%61pi/m%65/",
        "https://example.com/api%2Fme%2f",
    ],
)
def test_every_spelling_of_the_url_is_accepted(htu: str) -> None:
    assert verify(proof(htu=htu)).target == TARGET


@pytest.mark.parametrize(
    ("htu", "target"),
    [
        ("https://example.com", Target("https://example.com", "/")),
        ("https://example.com/a%20b", Target("https://example.com", "/a b")),
        ("https://example.com/%25", Target("https://example.com", "/%")),
        ("https://example.com/%C3%BC", Target("https://example.com", "/ü")),
        ("https://example.com/ü", Target("https://example.com", "/ü")),
        ("https://example.com//a/;b", Target("https://example.com", "//a/;b")),
        ("http://localhost:8000/", Target("http://localhost:8000", "/")),
        ("http://[::1]:80/", Target("http://[::1]", "/")),
        ("http://[::1]:8000/", Target("http://[::1]:8000", "/")),
    ],
)
def test_url_is_compared_after_normalising(htu: str, target: Target) -> None:
    assert dpop.verify(holder.prove("GET", htu), "GET", [target]).target == target


def test_any_of_the_targets_is_accepted() -> None:
    public = Target("https://public.example", "/below/api/me/")
    text = holder.prove("GET", "https://public.example/below/api/me/")
    assert dpop.verify(text, "GET", [TARGET, public]).target == public
    with pytest.raises(ProofNotValid):
        dpop.verify(text, "GET", [])


# The time of the proof


@pytest.mark.parametrize("age", [60, 0, -5])
def test_proof_may_be_a_minute_old_and_slightly_ahead(age: int) -> None:
    assert verify(proof(iat=NOW - age)).expires_at == NOW - age + 61


@pytest.mark.parametrize("iat", [NOW - 61, NOW + 6, 0, -1, 10**300])
def test_proof_with_a_wrong_clock_needs_a_nonce(iat: int) -> None:
    with pytest.raises(NonceRequired):
        verify(proof(iat=iat))
    assert verify(proof(iat=iat, nonce=dpop.newest_nonce())).expires_at == NOW + 180


def test_nonce_can_be_required() -> None:
    with pytest.raises(NonceRequired):
        verify(proof(), nonce_required=True)
    assert verify(proof(nonce=dpop.newest_nonce()), nonce_required=True).jkt == holder.jkt


@pytest.mark.parametrize(("age", "good"), [(0, True), (59, True), (179, True), (180, False)])
def test_nonce_is_valid_in_three_minutes(clock: TimeMachineFixture, age: int, good: bool) -> None:
    nonce = dpop.newest_nonce()
    clock.shift(age)
    text = proof(nonce=nonce)

    if good:
        assert verify(text).expires_at == NOW + 180
    else:
        with pytest.raises(NonceRequired):
            verify(text)


def test_nonce_of_the_next_minute_is_unknown(clock: TimeMachineFixture) -> None:
    clock.shift(60)
    nonce = dpop.newest_nonce()
    clock.move_to(NOW + 59, tick=False)
    with pytest.raises(NonceRequired):
        verify(proof(nonce=nonce))


@pytest.mark.parametrize("nonce", ["", "nonsense", "é", "\ud800", "A" * 22])
def test_foreign_nonce_is_refused_even_with_the_right_time(nonce: str) -> None:
    with pytest.raises(NonceRequired):
        verify(proof(nonce=nonce))


def test_nonce_of_a_former_key_is_valid(settings: Settings) -> None:
    nonce = dpop.newest_nonce()
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another " * 8, [settings.SECRET_KEY]
    assert dpop.newest_nonce() != nonce
    assert verify(proof(nonce=nonce)).jkt == holder.jkt
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(NonceRequired):
        verify(proof(nonce=nonce))


def test_nonce_has_128_bits_and_reveals_nothing() -> None:
    assert len(compact.decode_strictly(dpop.newest_nonce())) == 16
    secret = keys.secrets_for("dpop nonce")[0]
    minute = (NOW // 60).to_bytes(8, "big")
    assert dpop.newest_nonce() == encode(hmac.digest(secret, minute, "sha256")[:16])


def test_forged_proof_gets_no_nonce_challenge() -> None:
    """A wrong proof that is also late is just wrong."""
    with pytest.raises(ProofNotValid):
        verify(proof(iat=0, ath="wrong"))


def test_newest_nonce_is_sent_to_clients_without_it(clock: TimeMachineFixture) -> None:
    former = dpop.newest_nonce()
    assert dpop.nonce_for(proof(nonce=former)) is None
    clock.shift(60)
    newest = dpop.newest_nonce()
    assert newest != former
    assert dpop.nonce_for(proof(nonce=former)) == newest
    assert dpop.nonce_for(proof()) == newest


@pytest.mark.parametrize("text", ["", "nonsense", "a.b.c", "e30.W10.e30", "a." + "W" * 3000 + ".a", "é.é.é"])
def test_newest_nonce_is_sent_for_any_proof(text: str) -> None:
    assert dpop.nonce_for(text) == dpop.newest_nonce()


# Single use


def is_first(found: Proof) -> bool:
    try:
        dpop.spend(found)
    except ProofNotValid:
        return False
    return True


def assert_works_once(clock: TimeMachineFixture, found: Proof, lifetime: int) -> None:
    assert is_first(found)
    assert not is_first(found)
    clock.move_to(NOW + lifetime - 1, tick=False)
    assert not is_first(found)


@pytest.mark.parametrize("iat", [NOW - 60, NOW, NOW + 5])
def test_proof_works_once_while_it_is_valid(clock: TimeMachineFixture, iat: int) -> None:
    assert_works_once(clock, verify(proof(iat=iat)), iat - NOW + 61)


@pytest.mark.usefixtures("shared_cache")
@pytest.mark.parametrize("iat", [NOW - 60, NOW, NOW + 5])
def test_proof_works_once_in_a_shared_cache(clock: TimeMachineFixture, iat: int) -> None:
    assert_works_once(clock, verify(proof(iat=iat)), iat - NOW + 61)


@pytest.mark.usefixtures("shared_cache")
def test_proof_with_a_nonce_works_once_while_the_nonce_is_valid(clock: TimeMachineFixture) -> None:
    assert_works_once(clock, verify(proof(iat=0, nonce=dpop.newest_nonce())), 180)


@pytest.mark.usefixtures("shared_cache")
def test_used_proof_is_forgotten_once_it_has_expired(clock: TimeMachineFixture) -> None:
    """Only a minute later, since another server's clock may be behind."""
    found = verify(proof())
    dpop.spend(found)
    clock.move_to(NOW + 61 + 59, tick=False)
    assert not is_first(found)
    clock.move_to(NOW + 61 + 61, tick=False)
    assert is_first(found)


def test_used_proof_is_forgotten_in_its_process_once_it_has_expired(clock: TimeMachineFixture) -> None:
    found = verify(proof())
    dpop.spend(found)
    clock.move_to(NOW + 61 + 61, tick=False)
    assert is_first(found)


@pytest.mark.parametrize("dummy", [False, True])
def test_cache_that_drops_entries_is_not_relied_on(settings: Settings, dummy: bool) -> None:
    name = "dummy.DummyCache" if dummy else "locmem.LocMemCache"
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{name}"}}
    found = verify(proof())
    assert is_first(found)
    cache.clear()
    assert not is_first(found)


@pytest.mark.parametrize("shared", [False, True])
def test_proofs_are_identified_by_key_method_url_and_jti(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if shared:
        request.getfixturevalue("shared_cache")
    monkeypatch.setattr(dpop._used, "_secret", bytes(32))  # with this key, none of them displaces another
    jti = encode(str(NOW).encode())
    proofs = [
        Proof("key", jti, "GET", TARGET, NOW + 61),
        Proof("another", jti, "GET", TARGET, NOW + 61),
        Proof("key", jti, "POST", TARGET, NOW + 61),
        Proof("key", jti, "GET", Target("https://example.com", "/api/"), NOW + 61),
        Proof("key", jti, "GET", Target("https://example.org", "/api/me/"), NOW + 61),
        Proof("key", f"{jti}2", "GET", TARGET, NOW + 61),
    ]
    assert [is_first(found) for found in proofs] == [True] * 6
    assert [is_first(found) for found in proofs] == [False] * 6


@pytest.mark.usefixtures("shared_cache")
def test_cache_contains_a_hash_and_no_client_text(tmp_path: Path) -> None:
    dpop.spend(verify(proof(jti="secret of a client")))
    [entry] = tmp_path.iterdir()
    assert b"secret" not in entry.read_bytes()


def test_another_spelling_of_the_url_is_the_same_proof() -> None:
    spellings = [proof(jti="one of many", htu=htu) for htu in (URL, URL.upper().replace("API/ME", "api/me"))]
    assert [is_first(verify(text)) for text in spellings] == [True, False]


def test_unreachable_cache_refuses_proofs(settings: Settings) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
    }
    with pytest.raises(ReplayStoreUnreachable):
        dpop.spend(verify(proof()))


def test_table_replaces_entries_and_does_not_grow() -> None:
    table = Table(places=1)
    size = len(table._entries)
    assert [table.add(entry, NOW + 1) for entry in (b"a", b"a", b"b", b"a")] == [True, False, True, True]
    assert len(table._entries) == size == 16


def test_table_positions_are_unpredictable() -> None:
    """Otherwise an attacker could displace a proof with their own, and then use it again."""
    entries = [str(index).encode() for index in range(64)]

    def evicted() -> list[bool]:
        table = Table(places=64)
        for entry in entries:
            table.add(entry, NOW + 1)
        return [table.add(entry, NOW + 1) for entry in entries]

    assert evicted() != evicted()


FORKS = """
import os
from tokens.jose.dpop import Table
table, probe = Table(), Table()
probe._secret = table._secret
asked = [str(number).encode() for number in range(2000)]
for entry in asked:
    probe.add(entry, 2**31)
# Those that share their place with no other; of the others, each makes its neighbour forgotten.
entries = [entry for entry in asked if not probe.add(entry, 2**31)]
read, write = os.pipe()
for _ in range(4):
    if not os.fork():
        os.write(write, b"x" * sum(table.add(entry, 2**31) for entry in entries))
        os._exit(0)
for _ in range(4):
    os.wait()
os.close(write)
print(len(entries), len(os.fdopen(read, "rb").read()))
"""


def test_forked_processes_share_the_table() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings_tokens"}
    command = [sys.executable, "-c", FORKS]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    tried, won = map(int, done.stdout.split())
    assert won == tried > 1900


@pytest.mark.parametrize("has_fcntl", [True, False], ids=["on a Mac", "on Windows"])
def test_table_works_without_linux_features(monkeypatch: pytest.MonkeyPatch, has_fcntl: bool) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    if not has_fcntl:
        monkeypatch.setitem(sys.modules, "fcntl", None)  # its import fails
    spec: Any = find_spec("tokens.jose.dpop")
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    table = module.Table(places=1)
    assert [table.add(b"a", NOW + 1), table.add(b"a", NOW + 1)] == [True, False]


def test_parallel_calls_with_one_proof_succeed_once() -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            found = verify(proof())
            assert sum(pool.map(is_first, [found] * 8)) == 1
