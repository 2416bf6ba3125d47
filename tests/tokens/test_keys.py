"""The keys: derived, read from files, rotated, published, and fetched from another server."""

from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm
from pytest_django import Settings

from tests.clients import App, claims_of, header_of
from tests.publisher import Publisher, publishing
from tests.tokens.conftest import KeySetClock
from tokens.jose import download, keys
from tokens.models import Session

OLD, NEW = "the former secret key " * 3, "the coming secret key " * 3
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

PemFile = Callable[..., str]


@pytest.fixture
def pem(tmp_path: Path) -> PemFile:
    """Write a key, or any other text, into a new file and return the path."""
    written: list[Path] = []

    def write(content: Any, *, password: bytes | None = None) -> str:
        path = tmp_path / f"{len(written)}.pem"
        path.write_bytes(content if isinstance(content, bytes) else to_pem(content, password))
        written.append(path)
        return str(path)

    return write


def to_pem(key: Any, password: bytes | None = None) -> bytes:
    if hasattr(key, "private_bytes"):
        encryption: Any = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password)
        pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        return pem
    public: bytes = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public


def ed() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_of(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def number(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text + "=="))


# Derived from SECRET_KEY


def test_derived_keys_are_the_same_in_every_release(settings: Settings) -> None:
    """Other keys would sign everybody out. These were computed independently (RFC 5869)."""
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "x" * 50, []

    [key] = keys.access_keys()
    [refresh_key] = keys.refresh_keys()

    assert (key.kid, key.algorithm) == ("ddMqKLKHIQ4DDWULGA1l4v1oiH9sli8bopb1KnsM6as", "EdDSA")
    assert refresh_key.hex() == "6a6e9d738ddbcb2546e1b990631415f2ef27c8194ec73017723a59e420d1e1a0"


def test_derived_keys_are_independent(settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    access = [private_bytes(key) for key in keys.access_keys()]

    secrets = {*access, *keys.refresh_keys()}

    assert len(secrets) == 4
    assert all(len(secret) == 32 for secret in secrets)


def private_bytes(key: keys.Key) -> bytes:
    assert isinstance(key.private, ed25519.Ed25519PrivateKey)
    return key.private.private_bytes_raw()


def test_secret_key_can_be_bytes(settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, [OLD.encode()]

    assert len(keys.access_keys()) == 1


def test_key_set_names_each_key_once(settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD, NEW, OLD]

    kids = [jwk["kid"] for jwk in keys.key_set()["keys"]]

    assert len(kids) == len(set(kids)) == 2
    assert kids[0] == keys.access_keys()[0].kid


# Read from files


def test_okp_kid_is_the_thumbprint_of_rfc_8037(settings: Settings, pem: PemFile) -> None:
    seed = urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    settings.TOKENS_SIGNING_KEYS = [pem(ed25519.Ed25519PrivateKey.from_private_bytes(seed))]

    assert keys.key_set() == {
        "keys": [
            {
                "crv": "Ed25519",
                "kty": "OKP",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
                "use": "sig",
                "alg": "EdDSA",
            }
        ]
    }


def test_ec_and_rsa_kid_is_the_thumbprint_of_rfc_7638(settings: Settings, pem: PemFile) -> None:
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiF"
        "V4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9"
        "c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1"
        "jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    public = rsa.RSAPublicNumbers(number("AQAB"), number(modulus)).public_key()
    settings.TOKENS_SIGNING_KEYS = [pem(ed()), pem(public)]

    published = keys.key_set()["keys"][1]

    assert published == {
        "kty": "RSA",
        "n": modulus,
        "e": "AQAB",
        "kid": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        "use": "sig",
        "alg": "RS256",
    }


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [(ed, "EdDSA"), (p256, "ES256"), (lambda: rsa_of(2048), "RS256"), (lambda: rsa_of(3072), "RS256")],
    ids=["ed25519", "p256", "rsa2048", "rsa3072"],
)
def test_key_from_a_file_signs_in_and_publishes_its_public_half(
    ann: Any, settings: Settings, pem: PemFile, make: Callable[[], Any], algorithm: str
) -> None:
    settings.TOKENS_SIGNING_KEYS = [pem(make())]
    app = App()

    assert app.login().status_code == 200

    [jwk] = keys.key_set()["keys"]
    assert header_of(app.access) == {"alg": algorithm, "kid": jwk["kid"], "typ": "at+jwt"}
    assert jwk["alg"] == algorithm
    assert not jwk.keys() & PRIVATE_MEMBERS
    assert app.verify(app.access).status_code == 200
    assert header_of(app.refresh_token) == {"alg": "HS256", "typ": "rt+jwt"}


def test_first_file_signs_and_the_rest_verify(ann: Any, settings: Settings, pem: PemFile) -> None:
    first, second = pem(ed()), pem(rsa_of(2048))
    settings.TOKENS_SIGNING_KEYS = [first, second]
    app = App()
    app.login()

    settings.TOKENS_SIGNING_KEYS = [second, first]

    assert app.verify(app.access).status_code == 200
    former = header_of(app.access)["kid"]
    app.refresh()
    assert header_of(app.access)["kid"] != former


def test_key_can_be_published_before_it_signs(settings: Settings, pem: PemFile) -> None:
    signing, coming = ed(), p256()
    settings.TOKENS_SIGNING_KEYS = [pem(signing), pem(coming.public_key())]

    assert [jwk["alg"] for jwk in keys.key_set()["keys"]] == ["EdDSA", "ES256"]
    assert [key.private is not None for key in keys.access_keys()] == [True, False]


def test_public_half_of_the_signing_key_does_not_displace_it(settings: Settings, pem: PemFile) -> None:
    key = ed()
    settings.TOKENS_SIGNING_KEYS = [pem(key), pem(key.public_key())]

    [kept] = keys.access_keys()

    assert kept.private is not None


def test_parameters_before_a_key_do_no_harm(settings: Settings, pem: PemFile) -> None:
    """`openssl ecparam -genkey` writes them."""
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    settings.TOKENS_SIGNING_KEYS = [pem(parameters + to_pem(p256()))]

    assert keys.access_keys()[0].algorithm == "ES256"


UNUSABLE = "it must be Ed25519, P-256, or RSA with 2048 bits or more."


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: rsa_of(1024), UNUSABLE),
        (lambda: rsa_of(2047), UNUSABLE),
        (lambda: ec.generate_private_key(ec.SECP384R1()), UNUSABLE),
        (lambda: ec.generate_private_key(ec.SECP256K1()), UNUSABLE),
        (ed448.Ed448PrivateKey.generate, UNUSABLE),
        (x25519.X25519PrivateKey.generate, UNUSABLE),
        (lambda: dsa.generate_private_key(2048), UNUSABLE),
        (lambda: b"", "it contains no PEM keys instead of one."),
        (lambda: b"secret", "it contains no PEM keys instead of one."),
        (lambda: to_pem(ed()) + to_pem(ed()), "it contains 2 PEM keys instead of one."),
        (lambda: to_pem(ed()).replace(b"MC4", b"MC5"), "Could not deserialize key data."),
        (lambda: to_pem(ed())[:-30], "Unable to load PEM file."),
        (lambda: to_pem(ed(), b"password"), "private key is encrypted"),
    ],
    ids=[
        "rsa1024",
        "rsa2047",
        "p384",
        "secp256k1",
        "ed448",
        "x25519",
        "dsa",
        "empty",
        "text",
        "several",
        "broken",
        "cut short",
        "encrypted",
    ],
)
@pytest.mark.parametrize("place", [0, 1], ids=["signs", "verifies"])
def test_unusable_file_is_named_with_the_reason(
    settings: Settings, pem: PemFile, make: Callable[[], Any], reason: str, place: int
) -> None:
    path = pem(make())
    settings.TOKENS_SIGNING_KEYS = [path] if place == 0 else [pem(ed()), path]

    with pytest.raises(ImproperlyConfigured) as raised:
        keys.access_keys()

    assert str(raised.value).startswith(f"The signing key {path} can't be used: ")
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/nowhere/key.pem", "No such file or directory"), ("/", "Is a directory")],
)
def test_unreadable_file_is_named_with_the_reason(settings: Settings, path: str, reason: str) -> None:
    settings.TOKENS_SIGNING_KEYS = [path]

    with pytest.raises(ImproperlyConfigured) as raised:
        keys.access_keys()

    assert str(raised.value) == f"The signing key {path} can't be read: {reason}."


def test_first_file_must_contain_a_private_key(settings: Settings, pem: PemFile) -> None:
    path = pem(ed().public_key())
    settings.TOKENS_SIGNING_KEYS = [path, pem(ed())]

    with pytest.raises(ImproperlyConfigured) as raised:
        keys.access_keys()

    assert str(raised.value) == (
        f"The signing key {path} is a public key. The first key signs tokens, so it must be private."
    )


# Rotated


def server(*secrets: str) -> override_settings:
    """Act as a server with that SECRET_KEY and those SECRET_KEY_FALLBACKS."""
    return override_settings(SECRET_KEY=secrets[0], SECRET_KEY_FALLBACKS=list(secrets[1:]))


# The procedure, one server after the other: each server's keys at each step.
STEPS = [
    ((OLD,), (OLD,)),
    ((OLD, NEW), (OLD,)),
    ((OLD, NEW), (OLD, NEW)),
    ((NEW, OLD), (OLD, NEW)),
    ((NEW, OLD), (NEW, OLD)),
]


@pytest.mark.parametrize("configurations", STEPS)
def test_two_servers_accept_each_others_tokens_at_every_step(ann: Any, configurations: Any) -> None:
    for issuing, accepting in (configurations, reversed(configurations)):
        app = App()
        with server(*issuing):
            app.login()
            old_access, old_refresh = app.access, app.refresh_token
            app.refresh()
        with server(*accepting):
            assert app.verify(app.access).status_code == 200
            assert app.verify(app.refresh_token).status_code == 200
            retried = app.refresh(old_refresh)
            assert retried.status_code == 200
            assert claims_of(retried.data["refresh"])["generation"] == 1
            assert app.verify(old_access).status_code == 200
        with server(*issuing):
            assert app.verify(app.access).status_code == 200


def test_retry_across_key_rotation_has_the_same_claims(app: App) -> None:
    with server(OLD, NEW):
        app = App()
        app.login()
        first = app.refresh_token
        given = app.refresh().data["refresh"]

    with server(NEW, OLD):
        again = app.refresh(first).data["refresh"]

    assert claims_of(again) == claims_of(given)
    assert again != given


def test_secret_key_rotation_keeps_everyone_signed_in(
    ann: Any,
) -> None:
    app, idle = App(), App()
    with server(OLD):
        app.login()
        idle.login()
        [former] = keys.key_set()["keys"]

    with server(NEW, OLD):
        assert [former] == keys.key_set()["keys"][1:]
        assert app.refresh().status_code == 200

    with server(NEW):
        assert former not in keys.key_set()["keys"]
        assert app.verify(app.access).status_code == 200
        assert app.refresh().status_code == 200
        # Users who were away for the lifetime of a refresh token have to sign in again anyway.
        assert idle.refresh().data["code"] == "token_not_valid"


def test_rotation_renews_the_passwords_fingerprint(app: App) -> None:
    with server(OLD):
        app = App()
        app.login()
        session = Session.objects.get(pk=claims_of(app.access)["sid"])

    with server(NEW, OLD):
        app.refresh()
        session.refresh_from_db()
        assert session.auth_hash == session.user.get_session_auth_hash()


def test_password_change_ends_sessions_across_key_rotation(ann: Any) -> None:
    app = App()
    with server(OLD):
        app.login()

    with server(NEW, OLD):
        ann.set_password("another password")
        ann.save()
        assert app.refresh().data["code"] == "token_revoked"


def test_former_key_only_verifies(ann: Any) -> None:
    app = App()
    with server(NEW, OLD):
        app.login()
    with server(OLD):
        assert app.verify(app.access).data["code"] == "token_not_valid"
        assert app.verify(app.refresh_token).data["code"] == "token_not_valid"


# Fetched from another server


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    """The server that issues the tokens; it publishes nothing yet."""
    with publishing() as publisher:
        settings.SIMPLE_JWT = {"JWK_URL": publisher.url}
        yield publisher


def jwk_of(private: Any, **members: Any) -> dict[str, Any]:
    """Return the JWK of a key's public half."""
    jwk = keys._key(private).jwk
    return {**jwk, **members}


def test_fetched_key_verifies_by_the_name_its_server_gave_it(publisher: Publisher) -> None:
    private = ed()
    publisher.publish(jwk_of(private, kid="1"))

    key = keys.access_key("1")

    assert key is not None
    assert asdict(key) == asdict(replace(keys._key(private.public_key()), kid="1"))


def test_key_set_is_cached_until_it_is_old(publisher: Publisher, key_set_clock: KeySetClock) -> None:
    publisher.publish(jwk_of(ed(), kid="1"))
    for _ in range(3):
        assert keys.access_key("1")
    assert publisher.requests == 1

    publisher.publish(jwk_of(ed(), kid="2"))
    key_set_clock.now += keys.KEY_SET_MAX_AGE
    assert keys.access_key("1")
    key_set_clock.now += 1

    assert keys.access_key("1") is None
    assert keys.access_key("2")
    assert publisher.requests == 2


def test_unknown_kids_cause_one_request_per_cooldown(publisher: Publisher, key_set_clock: KeySetClock) -> None:
    publisher.publish(jwk_of(ed(), kid="1"))
    assert keys.access_key("1")

    assert not any(keys.access_key(f"unknown {i}") for i in range(20))
    assert publisher.requests == 1

    key_set_clock.now += keys.COOLDOWN + 1
    assert not any(keys.access_key(f"unknown {i}") for i in range(20))
    assert publisher.requests == 2


def test_new_key_is_found_before_the_set_is_old(publisher: Publisher, key_set_clock: KeySetClock) -> None:
    publisher.publish(jwk_of(ed(), kid="1"))
    assert keys.access_key("1")
    publisher.publish(jwk_of(ed(), kid="2"))

    key_set_clock.now += keys.COOLDOWN + 1

    assert keys.access_key("2")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (404, b'{"keys": []}'),
        (200, b""),
        (200, b"\xff"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [1]}'),
        (200, b"[" * 100_000),
    ],
    ids=["500", "404", "empty", "binary", "list", "object", "no keys", "no key", "nested"],
)
def test_malformed_key_set_counts_as_unreachable(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, status: int, body: bytes
) -> None:
    publisher.status, publisher.body = status, body

    for _ in range(2):
        with pytest.raises(keys.KeySetUnreachable):
            keys.access_key("1")

    assert publisher.requests == 1
    assert f"The key set {publisher.url} " in caplog.text


def test_silent_server_counts_as_unreachable(settings: Settings) -> None:
    with publishing() as publisher:
        pass
    settings.SIMPLE_JWT = {"JWK_URL": publisher.url}

    with pytest.raises(keys.KeySetUnreachable):
        keys.access_key("1")


def test_known_keys_survive_an_outage_for_a_while(publisher: Publisher, key_set_clock: KeySetClock) -> None:
    publisher.publish(jwk_of(ed(), kid="1"))
    assert keys.access_key("1")
    publisher.status = 503

    key_set_clock.now += 2 * keys.KEY_SET_MAX_AGE
    assert keys.access_key("1")
    # Nobody knows whether this token is genuine.
    with pytest.raises(keys.KeySetUnreachable):
        keys.access_key("2")

    key_set_clock.now += 1
    with pytest.raises(keys.KeySetUnreachable):
        keys.access_key("1")

    publisher.status = 200
    key_set_clock.now += keys.COOLDOWN
    assert keys.access_key("1")


def test_too_long_key_set_is_not_read(publisher: Publisher) -> None:
    publisher.publish(jwk_of(ed(), kid="1"), "x" * keys.KEY_SET_LENGTH)
    with pytest.raises(keys.KeySetUnreachable):
        keys.access_key("1")


def test_endless_key_set_is_abandoned(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher.publish(jwk_of(ed(), kid="1"))
    # By this clock, each step takes longer than the whole may take.
    monkeypatch.setattr(download, "monotonic", count(step=download.TIMEOUT + 1).__next__)
    with pytest.raises(keys.KeySetUnreachable):
        keys.access_key("1")


def test_known_key_is_never_waited_for(publisher: Publisher, key_set_clock: KeySetClock) -> None:
    publisher.publish(jwk_of(ed(), kid="1"))
    assert keys.access_key("1")
    key_set_clock.now += keys.KEY_SET_MAX_AGE + 1
    published = keys._published(publisher.url)
    with published._lock:  # another request is fetching it
        assert keys.access_key("1")
    assert publisher.requests == 1


def test_waiting_request_uses_the_fetched_set(publisher: Publisher, key_set_clock: KeySetClock) -> None:
    publisher.publish(jwk_of(ed(), kid="1"))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: keys.access_key("1"), range(4)))
    assert all(found)
    assert publisher.requests == 1


def test_redirect_is_not_followed(publisher: Publisher) -> None:
    with publishing() as elsewhere:
        elsewhere.publish(jwk_of(ed(), kid="1"))
        publisher.status, publisher.headers = 302, {"Location": elsewhere.url}

        with pytest.raises(keys.KeySetUnreachable):
            keys.access_key("1")

        assert elsewhere.requests == 0


def jwk_of_1024_bits() -> dict[str, Any]:
    return RSAAlgorithm.to_jwk(rsa_of(1024).public_key(), as_dict=True)


UNUSABLE_JWKS: dict[str, Callable[[], Any]] = {
    "private": lambda: {**OKPAlgorithm.to_jwk(ed(), as_dict=True), "use": "sig", "alg": "EdDSA"},
    "symmetric": lambda: {"kty": "oct", "k": "c2VjcmV0" * 8, "use": "sig", "alg": "HS256"},
    "empty symmetric": lambda: {"kty": "oct", "k": "", "use": "sig", "alg": "HS256"},
    "rsa1024": lambda: {**jwk_of_1024_bits(), "use": "sig", "alg": "RS256"},
    "algorithm of another type": lambda: jwk_of(ed(), alg="RS256"),
    "other algorithm": lambda: jwk_of(rsa_of(2048), alg="PS256"),
    "unknown algorithm": lambda: jwk_of(ed(), alg="none"),
    "for encryption": lambda: jwk_of(ed(), use="enc"),
    "without a name": lambda: {**jwk_of(ed()), "kid": None},
    "named by a list": lambda: jwk_of(ed(), kid=["1"]),
    "malformed": lambda: {"kty": "RSA", "n": "!", "e": "AQAB", "use": "sig", "alg": "RS256"},
    "no object": lambda: "key",
}


@pytest.mark.parametrize("make", UNUSABLE_JWKS.values(), ids=UNUSABLE_JWKS.keys())
def test_unusable_member_of_a_key_set_is_skipped(publisher: Publisher, make: Callable[[], Any]) -> None:
    jwk = make()
    named = {"kid": "unusable", **jwk} if isinstance(jwk, dict) else jwk
    publisher.publish(named, jwk_of(ed(), kid="1"))

    assert keys.access_key("1")
    assert keys.access_key("unusable") is None


@pytest.mark.parametrize("kid", [None, 1, True, ["1"], {"1": 1}])
def test_kid_that_is_not_text_is_ignored(publisher: Publisher, kid: object) -> None:
    assert keys.access_key(kid) is None
    assert publisher.requests == 0
