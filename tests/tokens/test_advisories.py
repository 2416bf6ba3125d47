"""A test for each advisory about our peers or our libraries that could apply here.

PyJWT, SimpleJWT (and drf-jwt, its elder), dj-rest-auth, django-oauth-toolkit, Keycloak. dj-rest-auth has published no
advisory; its tests are about its security fix and a public report.
"""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.contrib.auth.models import Group
from django.utils import timezone
from jwt.algorithms import OKPAlgorithm
from pytest_django import Settings
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App, Browser, claims_of
from tests.forgery import access_token, anybody, forge, hs
from tests.publisher import Publisher, publishing
from tests.racing import in_parallel
from tests.tokens.conftest import KeySetClock
from tokens.exceptions import NoActiveAccount, TokenNotValid
from tokens.jose import keys
from tokens.models import Session
from tokens.tokens import AccessToken, RefreshToken


def revoke(token: str) -> Any:
    return APIClient().post("/auth/revoke", f"token={token}", content_type="application/x-www-form-urlencoded")


def introspect(token: str) -> Any:
    headers: Any = {"HTTP_AUTHORIZATION": "Basic YTpi"}
    return APIClient().post(
        "/auth/introspect", f"token={token}", content_type="application/x-www-form-urlencoded", **headers
    )


@pytest.fixture(autouse=True)
def service(settings: Settings) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"a": "b"}


def assert_refused(token: str) -> None:
    with pytest.raises(TokenNotValid):
        AccessToken.claims(token)


# PyJWT: a public key used as the secret of an HMAC


@pytest.fixture
def public(settings: Settings, tmp_path: Path) -> rsa.RSAPublicKey:
    """The public half of the signing key; RSA, since most of these advisories are about it."""
    private = rsa.generate_private_key(65537, 2048)
    path = tmp_path / "key.pem"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    settings.TOKENS_SIGNING_KEYS = [str(path)]
    return private.public_key()


def spki(public: rsa.RSAPublicKey) -> bytes:
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(public: rsa.RSAPublicKey) -> bytes:
    return json.dumps(keys.key_set()["keys"][0]).encode()


SECRETS: dict[str, Callable[[rsa.RSAPublicKey], bytes]] = {
    "CVE-2017-11424": lambda key: key.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
    "CVE-2022-29217": lambda key: key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "CVE-2026-48526": jwk,
    "CVE-2026-102268": lambda key: spki(key).replace(b"\n", b"\r\n").replace(b"-----BEGIN", b" -----BEGIN"),
    "CVE-2026-102271": lambda key: key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "CVE-2026-102272": lambda key: b"\xef\xbb\xbf" + jwk(key),
    "CVE-2026-102273": lambda _: json.dumps(keys.key_set()).encode(),
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_public_key_in_whatever_form_is_no_hmac_secret(
    ann: Any, public: rsa.RSAPublicKey, secret: Callable[[rsa.RSAPublicKey], bytes]
) -> None:
    claims = claims_of(str(AccessToken.for_user(ann)))
    header = {"alg": "HS256", "kid": keys.access_keys()[0].kid, "typ": "at+jwt"}

    assert_refused(forge(header, claims, hs(secret(public))))


# PyJWT: the rest


def test_cve_2024_53861_issuer_is_compared_whole(ann: Any, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"ISSUER": "https://auth.example.com"}
    claims = claims_of(str(AccessToken.for_user(ann)))

    for issuer in ("https://auth.example", "auth.example.com", "h", "https://auth.example.com."):
        assert_refused(access_token({**claims, "iss": issuer}))


def test_cve_2025_45768_keys_are_as_long_as_their_algorithm_demands() -> None:
    assert [len(key) * 8 for key in keys.refresh_keys()] == [256]
    assert keys.RSA_MIN_BITS == 2048


def test_cve_2026_32597_header_with_extensions_that_are_critical_is_refused(app: App) -> None:
    for crit in (["x-policy"], ["b64"], []):
        assert_refused(access_token(claims_of(app.access), crit=crit, **{"x-policy": "strict"}))
        assert_refused(access_token(claims_of(app.access), crit=crit))


def test_cve_2026_48525_payload_is_never_detached(app: App) -> None:
    token = access_token(claims_of(app.access), b64=False, crit=["b64"])
    header, claims, signature = token.split(".")

    assert_refused(token)
    assert_refused(f"{header}..{signature}")
    assert_refused(f"{header}.{claims * 100}.{signature}")


@pytest.mark.parametrize("part", ["header", "claims"], ids=["CVE-2026-102265", "CVE-2026-101918"])
def test_nested_json_is_refused_and_no_server_error(app: App, part: str) -> None:
    deep = b'{"a":' * 500
    token = forge(deep, {}, anybody) if part == "header" else access_token(deep)

    assert_refused(token)
    assert app.verify(token).status_code == 401
    assert app.refresh(token).status_code == 401


def test_cve_2026_102269_revoked_token_has_no_second_spelling(app: App) -> None:
    revoke(app.access)

    for spelling in (app.access, f"{app.access}=", f"{app.access}!!!!", f"{app.access}\n", app.access[:-1] + "~"):
        assert app.verify(spelling).status_code == 401


# PyJWT: the client that fetches a key set


@pytest.fixture
def issuer(settings: Settings) -> Iterator[Publisher]:
    with publishing() as publisher:
        publisher.publish(*keys.key_set()["keys"])
        settings.SIMPLE_JWT = {"JWK_URL": publisher.url}
        yield publisher


@pytest.fixture
def kid() -> str:
    return keys.access_keys()[0].kid


@pytest.mark.parametrize("scheme", ["file://", "data:application/json,", "ftp://127.0.0.1"])
def test_cve_2026_48522_keys_come_over_http_only(settings: Settings, tmp_path: Path, kid: str, scheme: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(keys.key_set()))
    settings.SIMPLE_JWT = {"JWK_URL": scheme + (path.read_text() if scheme.startswith("data") else str(path))}

    with pytest.raises(keys.KeySetUnreachable):
        keys.access_key(kid)


def test_cve_2026_48522_token_names_no_place_to_fetch_keys_from(app: App) -> None:
    with publishing() as attacker:
        attacker.publish(*keys.key_set()["keys"])
        for header in ({"jku": attacker.url}, {"x5u": attacker.url}, {"kid": attacker.url}):
            assert_refused(access_token(claims_of(app.access), **header))
        assert attacker.requests == 0


def test_cve_2026_48523_algorithm_is_that_of_the_key_and_not_of_the_header(ann: Any, issuer: Publisher) -> None:
    claims = claims_of(str(AccessToken.for_user(ann)))
    assert AccessToken.claims(access_token(claims))

    for alg in ("RS256", "ES256", "HS256", "none"):
        assert_refused(access_token(claims, alg=alg))


def test_cve_2026_48524_outage_does_not_wipe_the_keys(issuer: Publisher, key_set_clock: KeySetClock, kid: str) -> None:
    assert keys.access_key(kid)
    issuer.status = 500
    key_set_clock.now += keys.COOLDOWN + 1

    with pytest.raises(keys.KeySetUnreachable):
        keys.access_key("unknown")

    assert keys.access_key(kid)


@pytest.mark.parametrize("status", [200, 500])
def test_cve_2026_101917_unknown_names_cause_one_request_each_cooldown(
    issuer: Publisher, key_set_clock: KeySetClock, status: int
) -> None:
    issuer.status = status
    for _ in range(3):
        for number in range(20):
            try:
                assert keys.access_key(f"unknown {number}") is None
            except keys.KeySetUnreachable:
                assert status == 500
        key_set_clock.now += keys.COOLDOWN + 1

    assert issuer.requests == 3


def test_cve_2026_102266_empty_secret_in_a_key_set_verifies_nothing(ann: Any, issuer: Publisher) -> None:
    claims = claims_of(str(AccessToken.for_user(ann)))
    empty = {"kty": "oct", "k": "", "kid": "empty", "use": "sig", "alg": "HS256"}
    issuer.publish(empty, *keys.key_set()["keys"])

    assert_refused(forge({"alg": "HS256", "kid": "empty", "typ": "at+jwt"}, claims, hs(b"")))


def test_cve_2026_102267_redirect_is_not_followed(issuer: Publisher, kid: str) -> None:
    with publishing() as attacker:
        attacker.publish(*keys.key_set()["keys"])
        issuer.status, issuer.headers = 302, {"Location": attacker.url}

        with pytest.raises(keys.KeySetUnreachable):
            keys.access_key(kid)

        assert attacker.requests == 0


def test_cve_2026_102274_malformed_member_spoils_no_other(issuer: Publisher, kid: str) -> None:
    malformed = {"kty": "RSA", "n": "AQAB", "e": "AA", "kid": "malformed", "use": "sig", "alg": "RS256"}
    issuer.publish(malformed, *keys.key_set()["keys"])

    assert keys.access_key(kid)
    assert keys.access_key("malformed") is None


def test_cve_2026_102275_private_key_in_a_key_set_is_passed_over(issuer: Publisher, kid: str) -> None:
    one, other = (OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True) for _ in range(2))
    named = {"kid": "private", "use": "sig", "alg": "EdDSA"}
    for private in (one, {**one, "x": other["x"]}):
        issuer.publish({**private, **named}, *keys.key_set()["keys"])
        keys._published.cache_clear()

        assert keys.access_key(kid)
        assert keys.access_key("private") is None


# SimpleJWT, drf-jwt


def test_cve_2024_22513_disabled_user_gets_no_token_and_has_none(app: App, ann: Any) -> None:
    ann.is_active = False
    ann.save()

    with pytest.raises(NoActiveAccount):
        RefreshToken.for_user(ann)
    assert app.verify(app.access).data["code"] == "token_revoked"
    assert app.refresh().data["code"] == "token_revoked"
    assert App().login().data["code"] == "no_active_account"


def test_cve_2020_10594_blacklisted_token_is_not_refreshed(app: App) -> None:
    app.blacklist(app.refresh_token)

    assert app.refresh().data["code"] == "token_revoked"


# dj-rest-auth


def test_dj_rest_auth_580_refresh_token_in_the_cookie_is_in_no_body(ann: Any) -> None:
    browser = Browser()

    for response in (browser.login(), browser.refresh()):
        assert browser.cookie
        assert browser.cookie not in response.content.decode()
        assert "refresh" not in response.content.decode().lower()


def test_dj_rest_auth_754_refresh_token_ends_with_the_logout(browser: Browser) -> None:
    cookie = browser.cookie
    assert browser.logout().status_code == 204

    assert browser.refresh(cookie).data["code"] == "token_revoked"


def test_dj_rest_auth_754_logout_needs_authentication(browser: Browser) -> None:
    assert APIClient().post("/auth/logout").status_code == 401
    assert browser.http.post("/auth/logout").status_code == 401
    assert Session.objects.get().revoked_at is None


# django-oauth-toolkit


def test_django_oauth_toolkit_1510_revoking_an_access_token_ends_its_refresh_token(app: App) -> None:
    revoke(app.access)

    assert app.refresh().data["code"] == "token_revoked"


def test_django_oauth_toolkit_1617_grace_period_shields_the_preceding_token_only(
    app: App, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to(timezone.now())
    oldest = app.refresh_token
    app.refresh()
    time_machine.shift(11)
    app.refresh()

    assert app.refresh(oldest).data["code"] == "token_reused"
    assert Session.objects.get().revoked_reason == "reused"


def test_django_oauth_toolkit_1687_retry_within_the_grace_period_is_no_server_error(app: App) -> None:
    first = app.refresh_token
    app.refresh()
    revoke(app.access)

    assert app.refresh(first).data["code"] == "token_revoked"
    Session.objects.all().delete()
    assert app.refresh(first).data["code"] == "token_revoked"


@pytest.mark.parametrize("field", ["username", "password"])
def test_django_oauth_toolkit_1006_nul_is_no_server_error(db: None, field: str) -> None:
    for path in ("/auth/login", "/api/token/"):
        body = {"username": "ann", "password": PASSWORD, field: "a\0b"}
        assert APIClient().post(path, body, format="json").status_code in (400, 401)


def test_django_oauth_toolkit_1012_unknown_token_is_inactive(db: None) -> None:
    response = introspect("unknown")

    assert (response.status_code, response.data) == (200, {"active": False})


# Keycloak


@pytest.mark.django_db(transaction=True)
def test_cve_2026_1035_parallel_refreshes_exchange_a_token_once(transactional_db: None, ann: Any) -> None:
    app = App()
    app.login()

    answers = in_parallel(*[lambda: App().refresh(app.refresh_token)] * 8)

    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.data["refresh"] for answer in answers}) == 1
    assert Session.objects.get().generation == 1


def test_cve_2026_1035_where_nothing_is_retried_only_one_is_answered(
    transactional_db: None, ann: Any, settings: Settings
) -> None:
    settings.TOKENS_GRACE_PERIOD, settings.TOKENS_LATE_RETRY = timedelta(), False
    app = App()
    app.login()

    answers = in_parallel(*[lambda: App().refresh(app.refresh_token)] * 8)

    assert sum(answer.status_code == 200 for answer in answers) == 1
    assert {answer.data["code"] for answer in answers if answer.status_code != 200} <= {
        "token_reused",
        "token_revoked",
    }
    assert Session.objects.get().revoked_reason == "reused"


def test_cve_2026_9802_superseded_token_stays_so_after_a_restart(app: App) -> None:
    """The row decides, and nothing that a restart would forget."""
    first = app.refresh_token
    app.refresh()
    app.refresh()
    for cache in (keys._derive, keys._hkdf, keys._read, keys._published):
        cache.cache_clear()
    Session.objects.update(rotated_at=timezone.now() - timedelta(hours=1))

    assert app.refresh(first).data["code"] == "token_reused"


def test_cve_2026_8922_revoked_token_is_inactive(app: App) -> None:
    revoke(app.refresh_token)

    assert introspect(app.access).data == {"active": False}
    assert introspect(app.refresh_token).data == {"active": False}


def test_cve_2026_18208_inactive_token_tells_nothing(app: App, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "AUDIENCE": "https://other.example"}

    assert introspect(app.access).data == {"active": False}


def test_cve_2026_1609_disabled_user_gets_no_token_by_any_way(app: App, browser: Browser, ann: Any) -> None:
    ann.is_active = False
    ann.save()

    assert app.refresh().status_code == 401
    assert browser.refresh().status_code == 401
    assert App().login().status_code == 401
    assert Browser().login().status_code == 401


def test_cve_2026_11800_algorithm_is_not_the_tokens_choice(app: App) -> None:
    claims = claims_of(app.access)

    for alg in ("HS256", "HS384", "HS512", "RS256", "none"):
        assert_refused(access_token(claims, alg=alg))
        assert_refused(forge({"alg": alg, "kid": keys.access_keys()[0].kid, "typ": "at+jwt"}, claims, hs(b"")))


def test_ghsa_7fpj_9hr8_28vh_logout_token_is_no_access_token(app: App) -> None:
    claims = {**claims_of(app.access), "events": {"http://schemas.openid.net/event/backchannel-logout": {}}}

    assert_refused(access_token(claims, typ="logout+jwt"))
    assert_refused(access_token(claims, typ="JWT"))


def test_cve_2019_3868_access_token_is_no_cookie(browser: Browser) -> None:
    response = browser.refresh(browser.access)

    assert (response.status_code, response.data["code"]) == (401, "token_not_valid")
    assert Session.objects.get().revoked_at is None


def test_ghsa_72j4_94rx_cr6w_audience_is_verified(app: App, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "AUDIENCE": "https://other.example"}

    assert_refused(app.access)


def test_ghsa_p225_pc2x_4jpm_lost_role_is_gone_from_the_next_token(app: App, ann: Any) -> None:
    ann.groups.add(Group.objects.create(name="admins"))
    app.refresh()
    assert claims_of(app.access)["groups"] == ["admins"]

    ann.groups.clear()
    app.refresh()

    assert claims_of(app.access)["groups"] == []


def test_cve_2026_96460_no_exchange_leads_past_the_sessions_end(
    ann: Any, settings: Settings, time_machine: TimeMachineFixture
) -> None:
    settings.TOKENS_SESSION_LIFETIME = timedelta(hours=1)
    app = App()
    time_machine.move_to(timezone.now())
    app.login()
    end = claims_of(app.refresh_token)["exp"]

    for _ in range(5):
        time_machine.shift(timedelta(minutes=11))
        assert app.refresh().status_code == 200
        assert claims_of(app.refresh_token)["exp"] == end
        assert claims_of(app.access)["exp"] <= end
    time_machine.shift(timedelta(minutes=6))

    assert app.refresh().data["code"] == "token_expired"
    assert app.verify(app.access).data["code"] == "token_expired"


def test_cve_2022_3916_cve_2025_12390_each_login_is_a_session_of_its_own(ann: Any, django_user_model: Any) -> None:
    """In a shared browser, the next user gets nothing from the previous one, who did not sign out."""
    django_user_model._default_manager.create_user("bob", email="bob@example.com", password=PASSWORD)
    browser = Browser()
    browser.login()
    anns = claims_of(browser.access)

    browser.login("bob")
    browser.refresh()
    bobs = claims_of(browser.access)

    assert bobs["username"] == "bob"
    assert bobs["sid"] != anns["sid"]
    assert claims_of(browser.cookie)["sub"] == bobs["sub"] != anns["sub"]


def test_ghsa_c9h6_v78w_52wj_session_never_changes_hands(browser: Browser) -> None:
    """An abandoned login leaves the earlier session unchanged."""
    before = claims_of(browser.access)

    assert browser.login("bob").status_code == 401
    browser.refresh()

    after = claims_of(browser.access)
    assert (after["sid"], after["sub"]) == (before["sid"], before["sub"])


def test_cve_2026_7507_session_planted_before_the_login_is_not_taken_over(
    browser: Browser, django_user_model: Any
) -> None:
    django_user_model._default_manager.create_user("bob", email="bob@example.com", password=PASSWORD)
    victim = Browser()
    victim.cookie = browser.cookie

    victim.login("bob")

    assert claims_of(victim.access)["username"] == "bob"
    assert claims_of(victim.access)["sid"] != claims_of(browser.access)["sid"]
    # The planted token no longer works, so it can't give anyone ann's account.
    assert browser.refresh().json()["code"] == "token_revoked"
