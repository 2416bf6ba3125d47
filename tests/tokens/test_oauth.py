"""The endpoints for OAuth software: revocation, introspection, the key set, the server's metadata."""

from base64 import b64encode
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus, urlsplit

import pytest
from django.contrib.auth.models import Group
from django.test import override_settings
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from pytest_django import Settings
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from tests.clients import CHALLENGES, App, Browser, claims_of
from tokens import authentication
from tokens.jose import keys
from tokens.models import SecurityEvent, Session

SECRET = "s3cret: with a colon, a %41, a + and an é"
CHALLENGE = 'Bearer realm="api"'


def form(path: str, authorization: str = "", **fields: Any) -> Any:
    headers: Any = {"HTTP_AUTHORIZATION": authorization} if authorization else {}
    body = "&".join(f"{name}={quote_plus(str(value))}" for name, value in fields.items())
    return APIClient().post(path, body, content_type="application/x-www-form-urlencoded", **headers)


def revoke(token: str, **fields: Any) -> Any:
    return form("/auth/revoke", token=token, **fields)


def introspect(token: str, authorization: str | None = None) -> Any:
    return form("/auth/introspect", basic("billing", SECRET) if authorization is None else authorization, token=token)


def basic(name: str, secret: str) -> str:
    return "Basic " + b64encode(f"{name}:{secret}".encode()).decode()


@pytest.fixture(autouse=True)
def credentials(settings: Settings) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"billing": SECRET, "search": "another secret"}


# Revocation (RFC 7009)


@pytest.mark.parametrize("kind", ["access", "refresh"])
@pytest.mark.parametrize("age", ["current", "earlier"])
def test_either_token_revokes_its_session(app: App, kind: str, age: str) -> None:
    token = app.access if kind == "access" else app.refresh_token
    if age == "earlier":
        app.refresh()

    response = revoke(token)

    assert (response.status_code, response.content) == (200, b"")
    assert response["Cache-Control"] == "no-store"
    assert Session.objects.get().revoked_reason == "logout"
    assert app.verify(app.access).data["code"] == "token_revoked"
    assert app.refresh().data["code"] == "token_revoked"
    assert SecurityEvent.objects.filter(kind="logout").count() == 1


def test_revoking_again_changes_nothing(app: App) -> None:
    revoke(app.access)
    before = list(SecurityEvent.objects.values())

    assert revoke(app.refresh_token).status_code == 200

    assert list(SecurityEvent.objects.values()) == before


def test_expired_token_revokes_nothing(app: App, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(timezone.now() + timedelta(minutes=16))

    assert revoke(app.access).status_code == 200

    assert Session.objects.get().revoked_at is None


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "id_token", "", "\0"])
def test_hint_is_not_needed(app: App, hint: str) -> None:
    response = revoke(app.refresh_token, token_type_hint=hint)

    assert response.status_code == 200
    assert Session.objects.get().revoked_at


@pytest.mark.parametrize("path", ["/auth/revoke", "/auth/introspect"])
def test_form_without_a_token_is_a_field_error(db: None, path: str) -> None:
    response = form(path, basic("billing", SECRET), nothing="x")

    assert response.status_code == 400
    assert response.data.keys() == {"token"}


@pytest.mark.parametrize("path", ["/auth/revoke", "/auth/introspect"])
def test_form_is_the_only_body(app: App, path: str) -> None:
    headers: Any = {"HTTP_AUTHORIZATION": basic("billing", SECRET)}
    response = APIClient().post(path, {"token": app.access}, format="json", **headers)

    assert (response.status_code, response.data["code"]) == (415, "unsupported_media_type")
    assert Session.objects.get().revoked_at is None


@pytest.mark.parametrize("path", ["/auth/revoke", "/auth/introspect"])
def test_get_is_not_allowed(db: None, path: str) -> None:
    headers: Any = {"HTTP_AUTHORIZATION": basic("billing", SECRET)}
    response = APIClient().get(path, {"token": "x"}, **headers)

    assert (response.status_code, response.data["code"]) == (405, "method_not_allowed")


# Introspection (RFC 7662)


def test_access_token_introspection_is_complete(app: App, ann: Any) -> None:
    ann.groups.set([Group.objects.create(name="writers"), Group.objects.create(name="editors")])
    claims = claims_of(app.access)

    response = introspect(app.access)

    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert response.data == {
        "active": True,
        "sub": str(ann.pk),
        "username": "ann",
        "groups": ["editors", "writers"],
        "iss": claims["iss"],
        "aud": claims["aud"],
        "iat": claims["iat"],
        "exp": claims["exp"],
        "jti": claims["jti"],
        "sid": claims["sid"],
        "token_type": "access",
    }


def test_refresh_token_introspection_is_complete(app: App, ann: Any) -> None:
    claims = claims_of(app.refresh_token)

    response = introspect(app.refresh_token)

    assert response.status_code == 200
    assert response.data == {
        "active": True,
        "sub": str(ann.pk),
        "username": "ann",
        "groups": [],
        "iss": claims["iss"],
        "iat": claims["iat"],
        "exp": claims["exp"],
        "jti": claims["jti"],
        "sid": claims["sid"],
        "token_type": "refresh",
    }


def test_introspection_reads_the_user_from_the_row(app: App, ann: Any) -> None:
    ann.username = "anne"
    ann.save()

    assert introspect(app.access).data["username"] == "anne"


def test_superseded_refresh_token_is_active_while_a_refresh_would_accept_it(
    app: App, time_machine: TimeMachineFixture
) -> None:
    time_machine.move_to("2030-01-01T12:00:00Z", tick=False)
    app.login()
    access, refresh = app.access, app.refresh_token
    app.refresh()
    app.refresh()  # a use: from now on, no late retry is accepted

    time_machine.shift(10)
    assert introspect(refresh).data["active"] is True
    time_machine.shift(1)
    assert introspect(refresh).data == {"active": False}
    assert introspect(access).data["active"] is True


@pytest.mark.parametrize("end", ["revoked", "deactivated", "password", "deleted", "expired"])
def test_token_of_an_ended_session_is_inactive_and_nothing_more(
    app: App, ann: Any, end: str, time_machine: TimeMachineFixture
) -> None:
    match end:
        case "revoked":
            revoke(app.access)
        case "deactivated":
            ann.is_active = False
            ann.save()
        case "password":
            ann.set_password("another password")
            ann.save()
        case "deleted":
            ann.delete()
        case "expired":
            time_machine.move_to(timezone.now() + timedelta(days=8))

    for token in (app.access, app.refresh_token):
        response = introspect(token)
        assert (response.status_code, response.data) == (200, {"active": False})


def test_introspecting_does_not_count_as_use(app: App) -> None:
    app.refresh()
    assert not Session.objects.get().confirmed

    introspect(app.access)
    introspect(app.refresh_token)

    assert not Session.objects.get().confirmed


def test_introspecting_costs_a_service_one_statement(app: App, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert introspect(app.access).data["active"]


def test_staff_may_introspect(app: App, browser: Browser, ann: Any) -> None:
    ann.is_staff = True
    ann.save()

    assert introspect(app.refresh_token, f"Bearer {browser.access}").data["active"]


def test_user_who_is_not_staff_is_forbidden(app: App) -> None:
    response = introspect(app.access, f"Bearer {app.access}")

    assert (response.status_code, response.data["code"]) == (403, "permission_denied")


def test_introspection_checks_current_staff_status(app: App, ann: Any) -> None:
    ann.is_staff = True
    ann.save()
    app.refresh()
    assert claims_of(app.access)["is_staff"] is True
    ann.is_staff = False
    ann.save()

    assert introspect(app.access, f"Bearer {app.access}").status_code == 403


def test_introspection_needs_credentials(app: App) -> None:
    response = introspect(app.access, "")

    assert (response.status_code, response.data["code"]) == (401, "not_authenticated")
    assert response["WWW-Authenticate"] == CHALLENGES


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("billing", "wrong"),
        ("billing", SECRET + " "),
        ("billing", SECRET[:-1]),
        ("billing", ""),
        ("billing", "another secret"),
        ("Billing", SECRET),
        ("unknown", SECRET),
        ("", SECRET),
        ("", ""),
        ("billing", SECRET + "\0"),
        ("billing", "x" * 5000),
    ],
)
def test_wrong_credentials_are_refused(app: App, name: str, secret: str) -> None:
    response = introspect(app.access, basic(name, secret))

    assert (response.status_code, response.data["code"]) == (401, "invalid_credentials")
    assert response["WWW-Authenticate"] == CHALLENGE


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic",
        "Basic ",
        "Basic !",
        "Basic A",
        "Basic YmlsbGluZw==",
        "Basic YmlsbGluZw== x",
        "Basic \xff",
        "Basic " + b64encode(b"\xff\xfe:\xff").decode(),
        "Basic " + b64encode(b"\0").decode(),
        "Basic " + b64encode(b"\0:\0").decode(),
        "Basic " + b64encode(b"%ZZ:%").decode(),
        "Basic " + b64encode(b"%ED%A0%80:%ED%A0%80").decode(),
        "Basic " + "A" * 8000,
        "basic " + b64encode(b"billing:wrong").decode(),
    ],
)
def test_malformed_credentials_are_refused(app: App, authorization: str) -> None:
    response = introspect(app.access, authorization)

    assert response.status_code == 401
    assert response.data.keys() == {"detail", "code"}
    assert response.data["code"] in ("authentication_failed", "invalid_credentials")
    assert response["WWW-Authenticate"] == CHALLENGE


@pytest.mark.parametrize("authorization", ["Negotiate AAAA", "Digest x", "billing", "\xff"])
def test_credentials_of_another_scheme_are_ignored(app: App, authorization: str) -> None:
    response = introspect(app.access, authorization)

    assert (response.status_code, response.data["code"]) == (401, "not_authenticated")


def test_form_encoded_credentials_are_accepted(app: App) -> None:
    """RFC 6749, section 2.3.1."""
    assert introspect(app.access, basic("billing", quote_plus(SECRET))).data["active"]


def test_any_of_the_credentials_is_accepted(app: App) -> None:
    assert introspect(app.access, basic("search", "another secret")).data["active"]


@pytest.mark.parametrize("configured", [{}, {"billing": "x"}])
def test_no_credentials_are_accepted_if_none_are_configured(app: App, settings: Settings, configured: Any) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = configured

    assert introspect(app.access).status_code == 401
    assert introspect(app.access, basic("", "")).status_code == 401


@pytest.mark.parametrize("name", ["billing", "unknown"])
def test_wrong_secret_and_unknown_name_take_the_same_comparisons(
    app: App, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    compared: list[tuple[int, int]] = []

    def counting(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return constant_time_compare(one, other)

    monkeypatch.setattr("tokens.authentication.constant_time_compare", counting)
    introspect(app.access, basic(name, "wrong"))

    assert len(compared) == 2


# The key set (RFC 7517) and the metadata (RFC 8414)

PUBLISHED = ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server"]


def get(path: str, **headers: Any) -> Any:
    return APIClient().get(path, **headers)


def test_key_set_contains_current_public_keys_only() -> None:
    with override_settings(SECRET_KEY="a new key " * 6, SECRET_KEY_FALLBACKS=["a former key " * 5]):
        published = get("/.well-known/jwks.json").json()
        assert published == keys.key_set()

    assert len(published["keys"]) == 2
    for jwk in published["keys"]:
        assert jwk.keys() == {"kty", "crv", "x", "kid", "use", "alg"}


def test_metadata_lists_the_endpoints(app: App, settings: Settings) -> None:
    settings.TOKENS_PUBLIC_URL = "https://auth.example/below"
    settings.ALLOWED_HOSTS = ["*"]
    assert get("/.well-known/oauth-authorization-server", HTTP_HOST="evil.example").json() == {
        "issuer": claims_of(app.access)["iss"],
        "jwks_uri": "https://auth.example/.well-known/jwks.json",
        "response_types_supported": [],
        "grant_types_supported": [],
        "revocation_endpoint": "https://auth.example/auth/revoke",
        "revocation_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint": "https://auth.example/auth/introspect",
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "Bearer"],
        "dpop_signing_alg_values_supported": ["ES256", "EdDSA", "Ed25519"],
    }


@pytest.mark.parametrize(
    ("issuer", "start"), [("https://auth.example", "https://auth.example/"), ("latchkey", "http://testserver/")]
)
def test_metadata_is_below_the_issuer_url(settings: Settings, issuer: str, start: str) -> None:
    if hasattr(settings, "TOKENS_PUBLIC_URL"):
        del settings.TOKENS_PUBLIC_URL
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "ISSUER": issuer}
    response = get("/.well-known/oauth-authorization-server")
    assert response.json()["jwks_uri"] == f"{start}.well-known/jwks.json"
    kept_by = "public" if issuer.startswith("https") else "private"
    assert set(response["Cache-Control"].split(", ")) == {kept_by, "max-age=300"}


def test_endpoints_in_the_metadata_work(app: App) -> None:
    metadata = get("/.well-known/oauth-authorization-server").json()
    path = {name: urlsplit(url).path for name, url in metadata.items() if isinstance(url, str)}

    assert get(path["jwks_uri"]).json() == keys.key_set()
    assert form(path["introspection_endpoint"], basic("billing", SECRET), token=app.access).data["active"]
    assert form(path["introspection_endpoint"], f"Bearer {app.access}", token=app.access).status_code == 403
    assert form(path["revocation_endpoint"], token=app.access).status_code == 200
    assert Session.objects.get().revoked_at


@pytest.fixture
def at_a_url(settings: Settings) -> None:
    settings.TOKENS_PUBLIC_URL = "https://auth.example"


@pytest.mark.usefixtures("at_a_url")
@pytest.mark.parametrize("path", PUBLISHED)
def test_published_document_is_cacheable(path: str) -> None:
    response = get(path)

    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "public, max-age=300"
    assert response["ETag"].startswith('"')
    assert not response.cookies
    assert "Vary" not in response or "cookie" not in response["Vary"].lower()


@pytest.mark.usefixtures("at_a_url")
@pytest.mark.parametrize("path", PUBLISHED)
def test_unchanged_document_is_304(path: str) -> None:
    etag = get(path)["ETag"]

    for condition in (etag, f"W/{etag}", f'"another", {etag}', "*"):
        response = get(path, HTTP_IF_NONE_MATCH=condition)
        assert (response.status_code, response.content) == (304, b"")
        assert response["ETag"] == etag
        assert response["Cache-Control"] == "public, max-age=300"
    assert get(path, HTTP_IF_NONE_MATCH='"another"').status_code == 200


def test_etag_changes_with_the_keys() -> None:
    before = get("/.well-known/jwks.json")["ETag"]

    with override_settings(SECRET_KEY="a new key " * 6):
        response = get("/.well-known/jwks.json", HTTP_IF_NONE_MATCH=before)

    assert response.status_code == 200
    assert response["ETag"] != before


@pytest.mark.parametrize("path", PUBLISHED)
def test_head_answers_as_get_without_the_body(path: str) -> None:
    whole, response = get(path), APIClient().head(path)

    assert (response.status_code, response.content) == (200, b"")
    assert {name: response[name] for name in ("ETag", "Cache-Control", "Content-Type")} == {
        name: whole[name] for name in ("ETag", "Cache-Control", "Content-Type")
    }


@pytest.mark.parametrize("path", PUBLISHED)
@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_ACCEPT": "application/jwk-set+json"},
        {"HTTP_ACCEPT": "text/html"},
        {"HTTP_ACCEPT": "nonsense"},
        {"HTTP_AUTHORIZATION": "Bearer nonsense"},
        {"HTTP_ORIGIN": "https://app.example", "HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_COOKIE": "refreshToken=nonsense"},
    ],
)
def test_published_document_is_the_same_for_everyone(path: str, headers: dict[str, str]) -> None:
    response = get(path, **headers)

    assert (response.status_code, response.content) == (200, get(path).content)


@pytest.mark.parametrize("path", PUBLISHED)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_published_document_is_read_only(path: str, method: str) -> None:
    response = getattr(APIClient(), method)(path, {"keys": []}, format="json")

    assert response.status_code == 405
    assert response.data.keys() == {"detail", "code"}
    assert "Cache-Control" not in response


@pytest.mark.parametrize("path", PUBLISHED)
def test_published_document_costs_no_statement(db: None, path: str, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert get(path).status_code == 200


# Guesses at a service's credentials


def test_refused_credentials_are_limited_per_service(
    app: App, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "REFUSED", {})
    settings.TOKENS_LIMITS = {"service": (1, 60.0)}
    for name in ("billing", "elsewhere"):
        answers = [form("/auth/introspect", basic(name, "guess"), token=app.access).status_code for _ in range(3)]
        assert answers == [401, 429, 429]


def test_wrong_service_credentials_are_limited_and_right_ones_are_not_counted(
    app: App, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "REFUSED", {("service", "long", "gone"): 0.0})
    monkeypatch.setattr(authentication, "REFUSED_LENGTH", 0)
    settings.TOKENS_LIMITS = {"service": (2, 60.0)}
    for _ in range(5):
        assert form("/auth/introspect", basic("billing", SECRET), token=app.access).status_code == 200
    answers = [form("/auth/introspect", basic("billing", f"guess{n}"), token=app.access) for n in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert int(answers[2]["Retry-After"]) >= 1
    # Even the right secret is refused. Other services and addresses are not affected.
    assert form("/auth/introspect", basic("billing", SECRET), token=app.access).status_code == 429
    assert form("/auth/introspect", basic("elsewhere", "guess"), token=app.access).status_code == 401
