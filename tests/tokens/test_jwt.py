"""The two kinds of JWT: their form, their limits, and each algorithm's own traps."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.contrib.auth.models import Group
from django.utils import timezone
from pytest_django import Settings
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken, TokenError
from time_machine import TimeMachineFixture

from tests.clients import App, claims_of, header_of
from tests.forgery import access_token, encode, forge, hs, refresh_token
from tokens.domain import sessions
from tokens.exceptions import TokenExpired, TokenNotValid
from tokens.jose import compact, jwt, keys
from tokens.models import Session
from tokens.tokens import AccessToken, RefreshToken

START = NOW = 1_800_000_000


@pytest.fixture
def access(ann: Any) -> dict[str, Any]:
    """The claims of an access token."""
    return claims_of(str(AccessToken.for_user(ann)))


@pytest.fixture
def refresh(ann: Any) -> dict[str, Any]:
    """The claims of a refresh token."""
    return claims_of(str(RefreshToken.for_user(ann)))


def test_token_headers_are_exact(app: App) -> None:
    assert header_of(app.access) == {"alg": "EdDSA", "kid": keys.access_keys()[0].kid, "typ": "at+jwt"}
    assert header_of(app.refresh_token) == {"alg": "HS256", "typ": "rt+jwt"}


def test_refresh_token_has_no_kid_and_no_audience(refresh: dict[str, Any]) -> None:
    assert refresh.keys() == {"iss", "sub", "sid", "jti", "iat", "exp", "generation", "token_type"}


@pytest.mark.parametrize(("backend", "sign"), [(jwt.access, access_token), (jwt.refresh, refresh_token)])
@pytest.mark.parametrize(("skew", "accepted"), [(60, True), (61, False)])
def test_clock_of_the_issuer_may_be_a_minute_ahead(
    clock: TimeMachineFixture,
    access: dict[str, Any],
    refresh: dict[str, Any],
    backend: Any,
    sign: Any,
    skew: int,
    accepted: bool,
) -> None:
    claims = access if backend is jwt.access else refresh
    token = sign({**claims, "iat": NOW + skew})

    if accepted:
        assert backend.decode(token)["iat"] == NOW + skew
    else:
        with pytest.raises(TokenBackendError):
            backend.decode(token)


@pytest.mark.parametrize(("left", "accepted"), [(1, True), (0, False)])
def test_token_expires_to_the_second(
    clock: TimeMachineFixture, access: dict[str, Any], left: int, accepted: bool
) -> None:
    token = access_token({**access, "exp": NOW + left})

    if accepted:
        assert jwt.access.decode(token)
    else:
        with pytest.raises(TokenBackendExpiredToken):
            jwt.access.decode(token)


def test_simplejwts_own_check_respects_the_leeway(clock: TimeMachineFixture, ann: Any, settings: Settings) -> None:
    token = AccessToken.for_user(ann)
    clock.shift(15 * 60 + 30)

    with pytest.raises(TokenError):
        token.check_exp(current_time=timezone.now())

    settings.SIMPLE_JWT = {"LEEWAY": 60}
    token.check_exp(current_time=timezone.now())


def test_forged_expired_token_is_not_valid(access: dict[str, Any]) -> None:
    """A forger can't learn whether a token has expired."""
    for token in (
        access_token({**access, "exp": 1, "iss": "https://attacker.example"}),
        forge(header_of(access_token(access)), {**access, "exp": 1}, hs(b"")),
    ):
        with pytest.raises(TokenBackendError) as raised:
            jwt.access.decode(token)
        assert not isinstance(raised.value, TokenBackendExpiredToken)


def test_token_as_bytes_is_accepted(access: dict[str, Any]) -> None:
    assert jwt.access.decode(access_token(access).encode()) == access


@pytest.mark.parametrize("token", [None, 1, [], {}, b"\xff", "é"])
def test_arbitrary_text_is_refused(token: Any) -> None:
    for backend in (jwt.access, jwt.refresh):
        for verify in (True, False):
            with pytest.raises(TokenBackendError):
                backend.decode(token, verify=verify)


def test_unverified_claims_are_read_under_any_signature(access: dict[str, Any]) -> None:
    assert jwt.access.decode(forge({}, access, hs(b"")), verify=False) == access


@pytest.mark.parametrize("audience", ["https://api.example", ["https://api.example", "https://other.example"]])
@pytest.mark.parametrize("accepted", ["https://api.example", ["https://api.example", "https://third.example"]])
def test_audiences_must_intersect(ann: Any, settings: Settings, audience: Any, accepted: Any) -> None:
    settings.SIMPLE_JWT = {"AUDIENCE": audience}
    token = str(AccessToken.for_user(ann))

    settings.SIMPLE_JWT = {"AUDIENCE": accepted}
    assert jwt.access.decode(token)["aud"] == audience

    settings.SIMPLE_JWT = {"AUDIENCE": "https://fourth.example"}
    with pytest.raises(TokenBackendError):
        jwt.access.decode(token)


# Length


def test_token_has_at_most_4096_bytes(access: dict[str, Any]) -> None:
    longest = next(
        token
        for filling in range(2000, 4000)
        if len(token := access_token({**access, "x": "x" * filling})) in (4095, 4096)
    )
    assert jwt.access.decode(longest)["x"]

    for length in range(4097, 4100):
        with pytest.raises(TokenBackendError):
            jwt.access.decode(longest + "A" * (length - len(longest)))


def test_groups_are_omitted_if_too_long(ann: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Servers refuse tokens that are too long, which would lock out users in many groups."""
    groups = [Group(name=f"a group with a name of some length, number {number:04}") for number in range(200)]
    ann.groups.set(Group.objects.bulk_create(groups))
    app = App()

    with caplog.at_level(logging.WARNING, "tokens.jose.jwt"):
        assert app.login().status_code == 200

    assert claims_of(app.access)["groups"] == []
    assert app.verify(app.access).status_code == 200
    assert f"The groups of user {ann.pk} don't fit into an access token, so it has none." in caplog.text


def test_many_groups_fit(ann: Any) -> None:
    groups = Group.objects.bulk_create(Group(name=f"department {number:02}") for number in range(80))
    ann.groups.set(groups)
    app = App()
    app.login()

    assert claims_of(app.access)["groups"] == [group.name for group in groups]
    assert len(app.access) <= jwt.MAX_LENGTH


def long_claim(session: Session) -> dict[str, Any]:
    return {"x": "x" * 4000}


def test_too_long_hook_claims_are_an_error_of_the_project(ann: Any, settings: Settings) -> None:
    settings.TOKENS_ACCESS_CLAIMS = f"{__name__}.long_claim"

    with pytest.raises(ValueError, match="The access token would be longer than 4096 bytes"):
        str(AccessToken.for_user(ann))


# The claims about the user, and the project's own


def test_groups_are_read_at_every_refresh_without_an_extra_statement(
    app: App, ann: Any, django_assert_num_queries: Any
) -> None:
    assert claims_of(app.access)["groups"] == []
    ann.groups.set([Group.objects.create(name="writers"), Group.objects.create(name="editors")])

    with django_assert_num_queries(2):  # the same as without groups: the session's SELECT, and its UPDATE
        app.refresh()

    assert claims_of(app.access)["groups"] == ["editors", "writers"]


RESERVED = (
    "iss",
    "aud",
    "client_id",
    "sub",
    "sid",
    "jti",
    "iat",
    "exp",
    "auth_time",
    "amr",
    "generation",
    "token_type",
    "username",
    "is_staff",
    "is_superuser",
    "groups",
)


def impostor(session: Session) -> dict[str, Any]:
    return dict.fromkeys(RESERVED, "forged") | {"tenant": "acme"}


def test_hook_cannot_override_reserved_claims(ann: Any, settings: Settings) -> None:
    settings.TOKENS_ACCESS_CLAIMS = f"{__name__}.impostor"

    claims = claims_of(str(AccessToken.for_user(ann)))

    assert claims.keys() == {*RESERVED, "tenant"}
    assert [name for name, value in claims.items() if value == "forged"] == []
    assert claims["tenant"] == "acme"


def broken(session: Session) -> dict[str, Any]:
    raise LookupError("no tenant")


def unwritable(session: Session) -> dict[str, Any]:
    return {"tenant": object()}


@pytest.mark.parametrize(
    ("hook", "error"),
    [
        (f"{__name__}.broken", LookupError),
        (f"{__name__}.unwritable", TypeError),
        (f"{__name__}.missing", ImportError),
        ("nonsense", ImportError),
    ],
)
def test_error_of_the_hook_is_not_hidden(ann: Any, settings: Settings, hook: str, error: type[Exception]) -> None:
    settings.TOKENS_ACCESS_CLAIMS = hook

    with pytest.raises(error):
        App().login()


# RSA and P-256


def configure(settings: Settings, tmp_path: Path, private: Any) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    settings.TOKENS_SIGNING_KEYS = [str(path)]


@pytest.fixture
def rsa_key(settings: Settings, tmp_path: Path) -> rsa.RSAPrivateKey:
    key = rsa.generate_private_key(65537, 2048)
    configure(settings, tmp_path, key)
    return key


@pytest.fixture
def ec_key(settings: Settings, tmp_path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    configure(settings, tmp_path, key)
    return key


def header(alg: str) -> dict[str, Any]:
    return {"alg": alg, "kid": keys.access_keys()[0].kid, "typ": "at+jwt"}


def assert_refused(token: str) -> None:
    with pytest.raises(TokenBackendError):
        jwt.access.decode(token)


@pytest.mark.parametrize("form", [PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_rsa_public_key_is_no_hmac_secret(
    rsa_key: rsa.RSAPrivateKey, access: dict[str, Any], form: PublicFormat, encoding: Encoding
) -> None:
    public = rsa_key.public_key().public_bytes(encoding, form)

    for secret in (public, public.rstrip(), public.replace(b"\n", b"\r\n"), b" " + public):
        assert_refused(forge(header("HS256"), access, hs(secret)))


def test_rsa_key_signs_in_one_way_only(rsa_key: rsa.RSAPrivateKey, access: dict[str, Any]) -> None:
    def pss(message: bytes) -> bytes:
        return rsa_key.sign(message, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())

    def pkcs1(message: bytes) -> bytes:
        return rsa_key.sign(message, padding.PKCS1v15(), SHA256())

    assert jwt.access.decode(forge(header("RS256"), access, pkcs1)) == access
    assert_refused(forge(header("PS256"), access, pss))
    assert_refused(forge(header("RS256"), access, pss))
    assert_refused(forge(header("RS384"), access, pkcs1))


def test_p256_signature_has_a_single_form(ec_key: ec.EllipticCurvePrivateKey, access: dict[str, Any]) -> None:
    def der(message: bytes) -> bytes:
        return ec_key.sign(message, ec.ECDSA(SHA256()))

    assert_refused(forge(header("ES256"), access, der))
    assert_refused(forge(header("ES384"), access, der))


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\xff" * 64, b"\0" * 63 + b"\1", b"\0" * 63, b"\0" * 65])
def test_degenerate_p256_signature_is_refused(
    ec_key: ec.EllipticCurvePrivateKey, access: dict[str, Any], signature: bytes
) -> None:
    assert_refused(forge(header("ES256"), access, lambda _: signature))


@pytest.fixture(params=["private", "public"])
def ed25519_token(request: pytest.FixtureRequest, access: dict[str, Any], settings: Settings, tmp_path: Path) -> str:
    """A token of ours, where both halves of its key are known, or only the public one."""
    token, (key,) = access_token(access), keys.access_keys()
    if request.param == "public":
        configure(settings, tmp_path, ec.generate_private_key(ec.SECP256R1()))
        path = tmp_path / "former.pem"
        path.write_bytes(key.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        settings.TOKENS_SIGNING_KEYS = [*settings.TOKENS_SIGNING_KEYS, str(path)]
    return token


def test_ed25519_signature_is_accepted(ed25519_token: str, signed: jwt.Signed) -> None:
    assert jwt.access.decode(ed25519_token)
    assert len(signed.known) == 1


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\xff" * 64, b"\1" + b"\0" * 63, b"\0" * 63, b"\0" * 65])
def test_degenerate_ed25519_signature_is_refused(ed25519_token: str, signature: bytes) -> None:
    assert_refused(f"{ed25519_token.rpartition('.')[0]}.{encode(signature)}")


def test_ed25519_signature_is_not_malleable(ed25519_token: str) -> None:
    """S and S + L verify alike where S is not checked to be below the group's order (RFC 8032, section 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    content, _, signature = ed25519_token.rpartition(".")
    decoded = compact.decode(signature)
    scalar = int.from_bytes(decoded[32:], "little") + order
    malleated = decoded[:32] + scalar.to_bytes(32, "little")

    assert_refused(f"{content}.{encode(malleated)}")


@pytest.mark.parametrize("token", ["", ".", "a.b.c", "null", "e30.e30.e30", "W10.e30.e30", "[" * 3000])
def test_arbitrary_text_is_not_a_refresh_token(token: str) -> None:
    assert not jwt.is_refresh(token)


def test_kind_is_read_from_the_header(app: App) -> None:
    assert jwt.is_refresh(app.refresh_token)
    assert not jwt.is_refresh(app.access)


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> jwt.Signed:
    """The cache of verified signatures, empty."""
    nothing = jwt.Signed()
    monkeypatch.setattr(jwt, "_signed", nothing)
    return nothing


def test_signature_is_verified_once_per_token(
    access: dict[str, Any], signed: jwt.Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = access_token(access)
    AccessToken.claims(token)
    monkeypatch.setattr(jwt, "_algorithms", {})  # from here on, no signature can be verified
    AccessToken.claims(token)


def test_signature_of_this_process_is_not_verified(
    signed: jwt.Signed, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwt, "_algorithms", {})
    AccessToken.claims(app.access)


def test_refused_token_is_not_remembered(access: dict[str, Any], signed: jwt.Signed) -> None:
    forged = access_token(access)[:-8] + "AAAAAAAA"
    with pytest.raises(TokenNotValid):
        AccessToken.claims(forged)
    assert not signed.known


def test_remembered_tokens_are_bounded(app: App, signed: jwt.Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt, "REMEMBERED", 2)
    for _ in range(3):
        app.refresh()
        assert 0 < len(signed.known) <= 2


def test_remembered_token_expires(clock: TimeMachineFixture, app: App) -> None:
    assert AccessToken.claims(app.access)["exp"] == NOW + 900
    clock.move_to(NOW + 900, tick=False)
    with pytest.raises(TokenExpired):
        AccessToken.claims(app.access)


@pytest.mark.parametrize("changed", ["ISSUER", "AUDIENCE"])
def test_remembered_token_follows_the_settings(app: App, settings: Settings, changed: str) -> None:
    AccessToken.claims(app.access)
    settings.SIMPLE_JWT = {changed: "another"}
    with pytest.raises(TokenNotValid):
        AccessToken.claims(app.access)


def test_each_reading_of_a_token_has_claims_of_its_own(app: App) -> None:
    first, second = (AccessToken.claims(app.access) for _ in range(2))
    first["groups"].append("editors")
    first["sub"] = "0"
    assert second == AccessToken.claims(app.access) == claims_of(app.access)


@pytest.mark.parametrize("change", [{"username": 1}, {"cnf": {}}])
def test_incomplete_token_is_refused_again(access: dict[str, Any], signed: jwt.Signed, change: dict[str, Any]) -> None:
    token = access_token({**access, **change})
    for _ in range(2):
        assert_refused(token)
    assert signed.payload(token) == b""


def test_payload_of_a_forgotten_token_is_not_kept(access: dict[str, Any], signed: jwt.Signed) -> None:
    signed.keep_payload(access_token(access))
    assert not signed.known


def test_remembered_token_of_a_removed_key_is_refused(app: App, settings: Settings) -> None:
    AccessToken.claims(app.access)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another " * 8, [settings.SECRET_KEY]
    AccessToken.claims(app.access)
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(TokenNotValid):
        AccessToken.claims(app.access)


def test_remembered_token_of_another_issuer_is_refused(app: App, settings: Settings) -> None:
    AccessToken.claims(app.access)
    settings.SIMPLE_JWT = {"ISSUER": "https://another.example"}
    with pytest.raises(TokenNotValid):
        AccessToken.claims(app.access)


@pytest.mark.parametrize("sid", [None, 1, "", "nonsense", "01A20CF1-7A10-7B8A-BEBC-6713BE378FEA"])
def test_sid_must_be_a_canonical_uuid(access: dict[str, Any], sid: object) -> None:
    with pytest.raises(TokenNotValid):
        AccessToken.claims(access_token({**access, "sid": sid}))


def test_duplicate_claim_is_refused(access: dict[str, Any]) -> None:
    with pytest.raises(TokenNotValid):
        AccessToken.claims(access_token(json.dumps(access).encode()[:-1] + b', "sub": "1"}'))


def test_refresh_token_that_its_session_did_not_issue_is_refused(refresh: dict[str, Any]) -> None:
    with pytest.raises(TokenNotValid):
        sessions.rotate({**refresh, "jti": "A" * 43})
    assert Session.objects.get().generation == 0
