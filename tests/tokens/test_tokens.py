"""SimpleJWT's interface, on top of sessions."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db.models import F
from pytest_django import Settings
from rest_framework_simplejwt import tokens as simplejwt
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError

from tests.clients import App, Browser, claims_of, header_of
from tokens.domain import sessions
from tokens.exceptions import TokenExpired, TokenNotValid, TokenRevoked
from tokens.models import Reason, Session
from tokens.tokens import AccessToken, RefreshToken


def tenant(session: Session) -> dict[str, Any]:
    return {"tenant": session.user.get_username(), "sub": "somebody else"}


def test_for_user_starts_a_session(ann: Any) -> None:
    refresh = RefreshToken.for_user(ann)
    assert isinstance(refresh, simplejwt.RefreshToken)
    assert isinstance(refresh.access_token, simplejwt.AccessToken)
    assert refresh.session == Session.objects.get()
    assert refresh["sid"] == refresh.access_token["sid"] == str(refresh.session.pk)
    assert AccessToken.for_user(ann).session != refresh.session


def test_for_user_refuses_an_inactive_user(ann: Any) -> None:
    type(ann).objects.filter(pk=ann.pk).update(is_active=False)
    with pytest.raises(TokenError):
        RefreshToken.for_user(ann)
    assert not Session.objects.exists()


def test_refresh_token_has_the_claims_of_its_row(ann: Any, settings: Settings) -> None:
    settings.SIMPLE_JWT = {}
    refresh = RefreshToken.for_user(ann)
    session = refresh.session
    assert header_of(str(refresh)) == {"alg": "HS256", "typ": "rt+jwt"}
    assert claims_of(str(refresh)) == {
        "iss": "latchkey",
        "sub": str(ann.pk),
        "sid": str(session.pk),
        "jti": session.jti(0),
        "iat": int(session.rotated_at.timestamp()),
        "exp": int(session.expires_at.timestamp()),
        "generation": 0,
        "token_type": "refresh",
    }


def test_access_token_follows_rfc_9068(ann: Any, settings: Settings) -> None:
    settings.SIMPLE_JWT = {}
    ann.groups.create(name="editors")
    access = AccessToken.for_user(ann)
    header, claims = header_of(str(access)), claims_of(str(access))
    assert (header["typ"], header["alg"]) == ("at+jwt", "EdDSA")
    issued, jti = claims.pop("iat"), claims.pop("jti")
    assert UUID(jti).version == 4
    assert claims == {
        "iss": "latchkey",
        "aud": "latchkey",
        "client_id": "latchkey",
        "sub": str(ann.pk),
        "sid": str(access.session.pk),
        "exp": issued + 900,
        "auth_time": int(access.session.authenticated_at.timestamp()),
        "amr": ["pwd"],
        "generation": 0,
        "token_type": "access",
        "username": "ann",
        "is_staff": False,
        "is_superuser": False,
        "groups": ["editors"],
    }


def test_lifetimes_issuer_and_audience_follow_simplejwts_settings(ann: Any, settings: Settings) -> None:
    settings.SIMPLE_JWT = {
        "ACCESS_TOKEN_LIFETIME": timedelta(minutes=1),
        "REFRESH_TOKEN_LIFETIME": timedelta(hours=1),
        "ISSUER": "https://auth.example",
        "AUDIENCE": ["https://api.example", "https://files.example"],
    }
    refresh = RefreshToken.for_user(ann)
    access = refresh.access_token
    assert (refresh.lifetime, access.lifetime) == (timedelta(hours=1), timedelta(minutes=1))
    assert refresh["exp"] - refresh["iat"] == 3600
    assert access["exp"] - access["iat"] == 60
    assert access["iss"] == refresh["iss"] == "https://auth.example"
    assert access["aud"] == ["https://api.example", "https://files.example"]
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "AUDIENCE": "https://files.example"}
    assert AccessToken(str(access))["aud"] == access["aud"]
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "AUDIENCE": "https://other.example"}
    with pytest.raises(TokenNotValid):
        AccessToken(str(access))


@pytest.mark.parametrize("leeway", [5, timedelta(seconds=5)])
def test_leeway_accepts_a_just_expired_token(ann: Any, settings: Settings, leeway: Any) -> None:
    settings.SIMPLE_JWT = {"ACCESS_TOKEN_LIFETIME": timedelta(seconds=-3)}
    text = str(AccessToken.for_user(ann))
    with pytest.raises(ExpiredTokenError):
        AccessToken(text)
    settings.SIMPLE_JWT = {"LEEWAY": leeway}
    token = AccessToken(text)
    assert token.get_token_backend().get_leeway() == timedelta(seconds=5)
    assert token.expires_in == -3


def test_token_from_text_must_be_acceptable(app: App) -> None:
    first, access = app.refresh_token, app.access
    assert RefreshToken(first)["generation"] == 0
    assert AccessToken(access.encode())["username"] == "ann"
    app.refresh()
    app.refresh()
    assert RefreshToken(first)["generation"] == 0
    Session.objects.update(rotated_at=F("rotated_at") - timedelta(seconds=11))
    with pytest.raises(TokenNotValid):
        RefreshToken(first)
    Session.objects.get().delete()
    with pytest.raises(TokenRevoked):
        AccessToken(access)


def test_access_token_of_a_superseded_refresh_token_does_not_confirm(app: App) -> None:
    first = RefreshToken(app.refresh_token)
    app.refresh()
    first.check_blacklist()
    late = RefreshToken(str(first)).access_token
    assert late["generation"] == 0
    assert not sessions.accept(late.payload).confirmed


def test_token_of_the_other_kind_is_not_valid(app: App) -> None:
    with pytest.raises(TokenNotValid):
        RefreshToken(app.access)
    with pytest.raises(TokenNotValid):
        AccessToken(app.refresh_token)


def test_expired_token_has_its_own_code(ann: Any, settings: Settings) -> None:
    settings.SIMPLE_JWT = {"REFRESH_TOKEN_LIFETIME": timedelta(seconds=-1)}
    with pytest.raises(TokenExpired):
        RefreshToken(str(RefreshToken.for_user(ann)))


def test_unverified_token_shows_its_claims_and_asks_for_its_session_when_needed(app: App) -> None:
    token = AccessToken(app.access, verify=False)
    assert token["username"] == "ann"
    assert token.session == Session.objects.get()


def test_blacklist_ends_the_session(app: App) -> None:
    token = RefreshToken(app.refresh_token)
    token.check_blacklist()
    assert token.blacklist() == (Session.objects.get(), True)
    assert token.blacklist() == (Session.objects.get(), False)
    assert Session.objects.get().revoked_reason == Reason.LOGOUT
    with pytest.raises(TokenError):
        token.check_blacklist()


def test_claims_of_an_access_token_can_be_set(ann: Any) -> None:
    token = AccessToken.for_user(ann)
    token["tenant"] = "acme"
    assert claims_of(str(token))["tenant"] == "acme"


def test_hook_adds_claims_and_overrides_none(browser: Browser, settings: Settings) -> None:
    settings.TOKENS_ACCESS_CLAIMS = f"{__name__}.tenant"
    browser.refresh()
    claims = claims_of(browser.access)
    assert claims["tenant"] == "ann"
    assert claims["sub"] != "somebody else"


def test_claims_of_the_hook_are_newer_than_those_of_the_login(ann: Any, settings: Settings) -> None:
    settings.TOKENS_ACCESS_CLAIMS = f"{__name__}.tenant"
    settings.SIMPLE_JWT = {"USER_ID_CLAIM": "user_id"}
    token = RefreshToken.for_user(ann)
    token["tenant"], token["user_id"] = "the former one", ann.pk
    claims = claims_of(str(token.access_token))
    assert (token["tenant"], claims["tenant"], claims["user_id"]) == ("the former one", "ann", ann.pk)


@pytest.mark.parametrize("kind", [AccessToken, RefreshToken])
def test_token_without_a_session_is_an_error_of_the_caller(kind: type[AccessToken]) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__}.for_user"):
        kind()
