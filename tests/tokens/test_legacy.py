"""SimpleJWT's tokens, after the move to this app."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import uuid4

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import make_naive
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework_simplejwt.utils import get_md5_hash_password
from time_machine import TimeMachineFixture

from tests.clients import App, Browser, claims_of
from tests.racing import await_somebody_who_waits, in_parallel, just_before
from tokens import times
from tokens.authentication import JWTAuthentication, StatelessJWTAuthentication
from tokens.domain import legacy, sessions
from tokens.domain.client import UNKNOWN
from tokens.exceptions import InvalidToken, TokenNotValid, TokenRefused, TokenRevoked
from tokens.models import Cutoff, FormerToken, Reason, Session, fingerprints
from tokens.permissions import RecentSignIn
from tokens.tokens import AccessToken, RefreshToken

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def window(settings: Settings) -> dict[str, Any]:
    taken: dict[str, Any] = {"UNTIL": datetime(2100, 1, 1, tzinfo=UTC), "COOKIES": ["refresh", "refreshToken"]}
    settings.TOKENS_LEGACY = taken
    return taken


@pytest.fixture
def token(ann: Any) -> str:
    """A refresh token that SimpleJWT has issued to ann."""
    return issued(ann)


def issued(user: Any, *, token_type: str = "refresh", lifetime: timedelta = DAY, **claims: Any) -> str:
    """Return a token as SimpleJWT issues it by default, without this process's settings."""
    now = int(times.now().timestamp())
    exp = now + int(lifetime.total_seconds())
    stock = {"token_type": token_type, "exp": exp, "iat": now, "jti": uuid4().hex, "user_id": str(user.pk)}
    return signed({**stock, **claims}, django_settings.SECRET_KEY, algorithm="HS256")


def access_to(user: Any, **claims: Any) -> str:
    return issued(user, token_type="access", lifetime=timedelta(minutes=5), **claims)


def signed(claims: dict[str, Any], key: Any, **options: Any) -> str:
    return pyjwt.encode(claims, key, **options)


def refreshed(token: str, **extra: Any) -> Any:
    return APIClient().post("/api/token/refresh/", {"refresh": token}, format="json", **extra)


def code(answer: Any) -> str:
    assert answer.status_code == 401, answer.content
    return str(answer.json()["code"])


def seen(access: str, guard: Any = JWTAuthentication, permission: Any = None, scheme: str = "Bearer") -> Any:
    """Call a guarded view."""

    @api_view()
    @authentication_classes([guard])
    @permission_classes([permission] if permission else [])
    def whoami(request: Request) -> Response:
        return Response(str(request.user))

    return whoami(APIRequestFactory().get("/", headers={"authorization": f"{scheme} {access}"}))


@contextmanager
def tables() -> Iterator[Callable[[str], None]]:
    """Create what matters of the tables of SimpleJWT's blacklist, and yield a function that blacklists a token."""
    columns = {
        "token_blacklist_outstandingtoken": "jti varchar(255) UNIQUE",
        "token_blacklist_blacklistedtoken": "token_id integer UNIQUE REFERENCES token_blacklist_outstandingtoken (id)",
    }
    key = "serial" if connection.vendor == "postgresql" else "integer"
    with connection.cursor() as cursor:
        for table, column in columns.items():
            cursor.execute(f"CREATE TABLE {table} (id {key} PRIMARY KEY, {column})")
    try:
        yield blacklist
    finally:
        with connection.cursor() as cursor:
            for table in reversed(columns):
                cursor.execute(f"DROP TABLE {table}")


def outstand(token: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO token_blacklist_outstandingtoken (jti) VALUES (%s)", [claims_of(token)["jti"]])


def blacklist(token: str) -> None:
    """Do what SimpleJWT's `blacklist` does, once the token is outstanding."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM token_blacklist_outstandingtoken WHERE jti = %s", [claims_of(token)["jti"]])
        cursor.execute("INSERT INTO token_blacklist_blacklistedtoken (token_id) VALUES (%s)", cursor.fetchone())


# The exchange


def test_old_token_is_exchanged_for_a_session(clock: TimeMachineFixture, token: str, ann: Any) -> None:
    clock.shift(HOUR)
    answer = refreshed(token, headers={"user-agent": "an app"}, REMOTE_ADDR="192.0.2.7")
    assert (answer.status_code, [*answer.json()]) == (200, ["refresh", "access"])
    session, claims = Session.objects.get(), claims_of(answer.json()["access"])
    assert (claims["sid"], claims["sub"]) == (str(session.pk), str(ann.pk))
    assert (claims["generation"], claims["auth_time"], claims["amr"]) == (1, 0, [])
    assert (session.user, session.generation, session.jkt) == (ann, 1, "")
    assert (session.user_agent, session.ip_address) == ("an app", "192.0.2.7")
    assert times.now() - session.created_at < HOUR
    assert session.pk.version == 7
    assert session.pk.int >> 80 == claims_of(token)["iat"] * 1000
    assert seen(answer.json()["access"]).data == "ann"
    assert refreshed(answer.json()["refresh"]).status_code == 200


def test_exchange_is_logged_but_is_not_a_sign_in(
    token: str,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with caplog.at_level("INFO", "latchkey.security"), django_capture_on_commit_callbacks(execute=True):
        refreshed(token)
        refreshed(token)
    assert [json.loads(record.message)["event"] for record in caplog.records] == ["legacy_exchanged"]


def test_old_tokens_are_refused_without_the_setting(settings: Settings, token: str, ann: Any) -> None:
    settings.TOKENS_LEGACY = None
    assert code(refreshed(token)) == "token_not_valid"
    assert code(App().verify(token)) == "token_not_valid"
    assert seen(access_to(ann)).status_code == 401
    ann.set_password("quite another horse")
    ann.save()
    sessions.revoke_all(ann, Reason.STAFF)
    call_command("revoketokens", "--all")
    for model in (Session, Cutoff, FormerToken):
        assert not model._default_manager.exists()


def test_retries_late_retries_and_reuse_work_as_for_any_session(clock: TimeMachineFixture, token: str) -> None:
    first = refreshed(token).json()
    assert refreshed(token).json()["refresh"] == first["refresh"]
    clock.shift(HOUR)
    late = refreshed(token).json()
    assert claims_of(late["refresh"])["generation"] == 2
    clock.shift(timedelta(seconds=11))
    assert refreshed(late["refresh"]).status_code == 200
    assert code(refreshed(token)) == "token_reused"
    assert code(refreshed(late["refresh"])) == "token_revoked"
    assert Session.objects.count() == 1


@pytest.mark.parametrize("name", ["refresh", "refreshToken"])
def test_old_cookie_is_accepted_and_the_new_one_wins(ann: Any, token: str, name: str) -> None:
    http, header = APIClient(), f"{name}={token}"
    answer = http.post("/auth/refresh-token", headers={"cookie": header})
    assert (answer.status_code, claims_of(answer.json()["accessToken"])["auth_time"]) == (200, 0)
    new = answer.cookies["refreshToken"].value
    for both in (f"{header}; refreshToken={new}", f"refreshToken={new}; {header}"):
        again = http.post("/auth/refresh-token", headers={"cookie": both})
        assert claims_of(again.cookies["refreshToken"].value)["generation"] >= 1
    assert Session.objects.get().generation == 1
    assert http.post("/auth/refresh-token", headers={"cookie": f"{header}; {header}"}).status_code == 401
    assert code(http.post("/auth/refresh-token", headers={"cookie": f"{header}; refreshToken=x.y.z"})) == (
        "token_not_valid"
    )


def test_sign_in_beside_an_old_cookie_ends_its_session(ann: Any, token: str) -> None:
    browser = Browser()
    assert browser.login(password="wrong", headers={"cookie": f"refresh={token}"}).status_code == 401
    assert App().verify(token).status_code == 200
    assert browser.login(headers={"cookie": f"refresh={token}"}).status_code == 200
    assert code(refreshed(token)) == "token_revoked"
    assert Session.objects.live().count() == 1


def test_custom_claims_are_kept(settings: Settings, ann: Any) -> None:
    answer = refreshed(issued(ann, name="Ann", groups=["mine"], hash_password=get_md5_hash_password(ann.password)))
    claims = claims_of(answer.json()["access"])
    assert (claims["name"], claims["groups"]) == ("Ann", [])
    assert "hash_password" not in claims
    assert claims_of(refreshed(answer.json()["refresh"]).json()["access"])["name"] == "Ann"


def test_too_long_claims_are_dropped(ann: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert "name" not in claims_of(refreshed(issued(ann, name="a" * 1500)).json()["access"])
    assert "Left out the claims" in caplog.text


def test_exchanged_session_is_no_recent_sign_in_until_a_reauthentication(token: str) -> None:
    access = refreshed(token).json()["access"]
    assert seen(access, permission=RecentSignIn).data["code"] == "reauthentication_required"
    session = Session.objects.get()
    sessions.reauthenticate(session)
    assert seen(str(AccessToken.of(session)), permission=RecentSignIn).status_code == 200


def test_absolute_end_is_counted_from_the_exchange(clock: TimeMachineFixture, settings: Settings, token: str) -> None:
    settings.SIMPLE_JWT, settings.TOKENS_SESSION_LIFETIME = {"ROTATE_REFRESH_TOKENS": False}, 2 * HOUR
    clock.shift(HOUR)
    assert refreshed(token).status_code == 200
    clock.shift(2 * HOUR - timedelta(seconds=2))
    assert refreshed(token).status_code == 200
    clock.shift(timedelta(seconds=3))
    assert code(refreshed(token)) == "token_expired"


def test_old_token_continues_without_rotation(clock: TimeMachineFixture, settings: Settings, token: str) -> None:
    settings.SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": False, "REFRESH_TOKEN_LIFETIME": 2 * HOUR}
    for _ in range(3):
        answer = refreshed(token)
        assert [*answer.json()] == ["access"]
        assert seen(answer.json()["access"]).data == "ann"
        clock.shift(5 * HOUR)
        call_command("flushexpiredtokens")
    assert Session.objects.get().generation == 0
    assert code(APIClient().post("/auth/refresh-token", headers={"cookie": "x=y"})) == "refresh_token_missing"
    assert APIClient().post("/auth/refresh-token", headers={"cookie": f"refresh={token}"}).status_code == 200
    clock.shift(HOUR)
    assert code(refreshed(token)) == "token_reused"


def test_old_and_new_tokens_cost_the_pinned_statements(app: App, token: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert app.refresh().status_code == 200
    assert len(queries) == 2
    with CaptureQueriesContext(connection) as queries:
        assert seen(app.access).status_code == 200
        assert seen(app.access).status_code == 200
    assert len(queries) == 2 + 1


# Refusals


def test_verifying_answers_like_a_refresh_and_starts_no_session(
    clock: TimeMachineFixture, token: str, ann: Any
) -> None:
    assert App().verify(token).json() == {}
    assert not Session.objects.exists()
    refreshed(token)
    assert App().verify(token).status_code == 200
    for generation in (0, 1):
        current = Session.objects.get()
        assert current.generation == generation + 1
        clock.shift(timedelta(seconds=11))
        refreshed(str(RefreshToken.of(current)))
    assert code(App().verify(token)) == "token_not_valid"
    assert Session.objects.get().revoked_at is None
    ann.is_active = False
    ann.save()
    assert code(App().verify(issued(ann))) == "token_revoked"


@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("door", ["blacklist", "revoke", "class"])
def test_old_token_can_be_ended(token: str, door: str, exchanged: bool) -> None:
    if exchanged:
        refreshed(token)
    match door:
        case "blacklist":
            assert App().blacklist(token).json() == {}
        case "revoke":
            body, form = f"token={token}", "application/x-www-form-urlencoded"
            assert APIClient().post("/auth/revoke", body, content_type=form).status_code == 200
        case "class":
            RefreshToken(token).blacklist()
    for answer in (refreshed(token), App().verify(token), App().blacklist(token)):
        assert code(answer) == "token_revoked"
    assert Session.objects.get().revoked_reason == Reason.LOGOUT


def test_refresh_token_class_starts_the_session_when_needed(token: str, ann: Any) -> None:
    refresh = RefreshToken(token)
    assert (refresh["user_id"], Session.objects.exists()) == (str(ann.pk), False)
    assert seen(str(refresh.access_token)).data == "ann"
    assert refreshed(str(refresh)).status_code == 200
    assert seen(str(RefreshToken(token).access_token)).data == "ann"
    assert RefreshToken(token, verify=False)["jti"] == claims_of(token)["jti"]


def change_password(user: Any) -> None:
    user.set_password("quite another horse")
    user.save()


def assign_hash(user: Any) -> None:
    user.password = make_password("quite another horse")
    user.save(update_fields=["password"])


def reactivate(user: Any) -> None:
    for user.is_active in (False, True):
        user.save()


ENDINGS: dict[str, Callable[[Any], object]] = {
    "changed password": change_password,
    "assigned hash": assign_hash,
    "all ended": lambda user: sessions.revoke_all(user, Reason.LOGOUT_ALL),
    "others ended": lambda user: sessions.revoke_others(sessions.start(user), Reason.REVOKED),
    "command": lambda _: call_command("revoketokens", "--user=ann"),
    "command for all": lambda _: call_command("revoketokens", "--all"),
    "deactivated and back": reactivate,
}


@pytest.mark.parametrize("exchanged", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_ending_all_sessions_ends_old_tokens(
    clock: TimeMachineFixture, ann: Any, token: str, ending: str, exchanged: bool
) -> None:
    access = access_to(ann)
    if exchanged:
        refreshed(token)
    ENDINGS[ending](ann)
    assert code(refreshed(token)) == "token_revoked"
    assert code(App().verify(token)) == "token_revoked"
    assert seen(access).data["code"] == "token_revoked"
    clock.shift(timedelta(seconds=1))
    # Tokens that SimpleJWT issues later, on a server that has not moved yet, are accepted.
    assert refreshed(issued(ann)).status_code == 200
    assert seen(access_to(ann)).status_code == 200


def test_other_saves_of_a_user_end_nothing(ann: Any, token: str) -> None:
    ann.save()
    ann.save(update_fields=["last_login"])
    get_user_model()._default_manager.create_user("bob", email="bob@example.com", password="another horse")
    assert not Cutoff.objects.exists()
    assert refreshed(token).status_code == 200


def test_old_token_issued_after_a_password_change_is_accepted(clock: TimeMachineFixture, ann: Any, token: str) -> None:
    for change in (change_password, assign_hash):
        change(ann)
        clock.shift(HOUR)
    assert refreshed(issued(ann, iat=int(times.now().timestamp()) - 60)).status_code == 200
    assert code(refreshed(token)) == "token_revoked"


def test_password_changed_by_a_queryset_update_ends_known_old_tokens(ann: Any, token: str) -> None:
    access, other = access_to(ann), issued(ann)
    assert seen(access).status_code == 200
    get_user_model()._default_manager.filter(pk=ann.pk).update(password=make_password("quite another horse"))
    assert seen(access).data["code"] == "token_revoked"
    assert code(refreshed(token)) == code(refreshed(other)) == "token_revoked"


@pytest.mark.parametrize("was_seen", [False, True])
def test_upgraded_hash_ends_nothing(ann: Any, token: str, was_seen: bool) -> None:
    access = access_to(ann)
    if was_seen:
        seen(access)
    former = list(fingerprints(ann))
    assign_hash(ann)
    sessions.renew_auth_hash(ann, former)
    assert seen(access).status_code == 200
    assert refreshed(token).status_code == 200


def test_sessions_of_users_who_are_ended_in_the_admin(admin_client: Any, ann: Any, token: str) -> None:
    sessions.start(ann)
    body = {"action": "revoke_all_of_users", "_selected_action": [str(Session.objects.get(user=ann).pk)]}
    admin_client.post("/admin/latchkey/session/", body)
    assert code(refreshed(token)) == "token_revoked"


@pytest.mark.parametrize("exchanged", [False, True])
def test_password_fingerprint_in_the_token_must_match(ann: Any, window: dict[str, Any], exchanged: bool) -> None:
    window["REVOKE_TOKEN_CLAIM"] = "pw"
    token, access = issued(ann, pw=get_md5_hash_password(ann.password)), access_to(ann, pw="another")
    if exchanged:
        assert refreshed(token).status_code == 200
    get_user_model()._default_manager.filter(pk=ann.pk).update(password=make_password("quite another horse"))
    assert code(refreshed(token)) == "token_revoked"
    assert seen(access).data["code"] == "token_revoked"


@pytest.mark.parametrize("gone", ["flushed", "deleted", "revoked and flushed"])
def test_deleted_session_is_never_revived(clock: TimeMachineFixture, settings: Settings, token: str, gone: str) -> None:
    settings.SIMPLE_JWT = {"REFRESH_TOKEN_LIFETIME": HOUR, "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5)}
    refreshed(token)
    if "revoked" in gone:
        sessions.revoke(Session.objects.get(), Reason.LOGOUT)
    if "flushed" in gone:
        clock.shift(2 * HOUR)
        call_command("flushexpiredtokens")
    else:
        Session.objects.all().delete()
    assert not Session.objects.exists()
    assert code(refreshed(token)) == code(App().verify(token)) == "token_revoked"
    assert not Session.objects.exists()
    clock.move_to(datetime.fromtimestamp(claims_of(token)["exp"], UTC) - timedelta(seconds=1))
    call_command("flushexpiredtokens")
    assert code(refreshed(token)) == "token_revoked"
    clock.shift(timedelta(seconds=2))
    call_command("flushexpiredtokens")
    assert code(refreshed(token)) == "token_expired"
    assert not FormerToken.objects.exists()


@pytest.mark.parametrize("fate", ["inactive", "deleted", "refused by the rule"])
def test_inactive_user_is_refused(settings: Settings, ann: Any, token: str, fate: str) -> None:
    access = access_to(ann)
    match fate:
        case "inactive":
            get_user_model()._default_manager.filter(pk=ann.pk).update(is_active=False)
        case "deleted":
            ann.delete()
        case "refused by the rule":
            settings.SIMPLE_JWT = {"USER_AUTHENTICATION_RULE": lambda _: False}
    assert code(refreshed(token)) == code(App().verify(token))
    assert seen(access).status_code == (200 if "rule" in fate else 401)
    assert not Session.objects.exists()


def test_blacklisted_old_token_is_refused(ann: Any, token: str) -> None:
    other, unknown = issued(ann), issued(ann)
    assert refreshed(other).status_code == 200
    with tables():
        for known in (token, other):
            outstand(known)
            assert App().verify(known).status_code == 200
            blacklist(known)
            assert code(refreshed(known)) == code(App().verify(known)) == "token_revoked"
        assert refreshed(unknown).status_code == 200
    assert Session.objects.count() == 2


def test_old_token_must_be_issued_before_the_window_closes(
    clock: TimeMachineFixture, ann: Any, window: dict[str, Any]
) -> None:
    window["UNTIL"] = make_naive(times.now() + HOUR)  # as a project may write it
    early = issued(ann), access_to(ann)
    clock.shift(2 * HOUR)
    late = issued(ann), access_to(ann)
    assert code(refreshed(late[0])) == seen(late[1]).data["code"] == "token_not_valid"
    assert refreshed(early[0]).status_code == 200
    assert seen(early[1]).data["code"] == "token_expired"


def forged(ann: Any) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the forgeries by their fault: the claims to change, and how to sign."""
    now = int(times.now().timestamp())
    return {
        "another key": ({}, {"key": "another key " * 5}),
        "another algorithm": ({}, {"algorithm": "HS512"}),
        "no algorithm": ({}, {"algorithm": "none", "key": ""}),
        "another type": ({}, {"headers": {"typ": "at+jwt"}}),
        "a key of its own choice": ({}, {"headers": {"kid": "mine"}}),
        "from the future": ({"iat": now + 90}, {}),
        "no time": ({"iat": None}, {}),
        "time that is none": ({"exp": 1e300}, {}),
        "no jti": ({"jti": ""}, {}),
        "no user": ({"user_id": True}, {}),
        "user who is none": ({"user_id": "nobody"}, {}),
        "another kind": ({"token_type": "sliding"}, {}),
        "kind that can't be looked up": ({"token_type": ["refresh"]}, {}),
    }


@pytest.mark.parametrize("wrong", forged(None))
def test_forged_old_token_is_refused(settings: Settings, ann: Any, token: str, wrong: str) -> None:
    changes, options = forged(ann)[wrong]
    for text in (token, access_to(ann)):
        bad = signed({**claims_of(text), **changes}, **{"key": settings.SECRET_KEY, "algorithm": "HS256", **options})
        assert refreshed(bad).status_code == App().verify(bad).status_code == 401
        assert seen(bad).status_code == 401
    assert not Session.objects.exists()


def test_same_jti_for_another_user_is_refused(settings: Settings, ann: Any, token: str) -> None:
    bob = get_user_model()._default_manager.create_user("bob", email="bob@example.com", password="another horse")
    refreshed(token)
    stolen = signed({**claims_of(token), "user_id": str(bob.pk)}, settings.SECRET_KEY, algorithm="HS256")
    assert code(refreshed(stolen)) == "token_not_valid"


@pytest.mark.parametrize(("settings_", "claims", "status"), [
    ({"ISSUER": "shop"}, {"iss": "shop"}, 200),
    ({"ISSUER": "shop"}, {"iss": "else"}, 401),
    ({"ISSUER": ["shop", "store"]}, {"iss": "store"}, 200),
    ({"AUDIENCE": "shop"}, {"aud": ["a", "shop"]}, 200),
    ({"AUDIENCE": ["shop"]}, {"aud": "shop"}, 200),
    ({"AUDIENCE": ["shop"]}, {}, 401),
    ({"USER_ID_CLAIM": "uid"}, {}, 401),
    ({"USER_ID_CLAIM": "uid", "USER_ID_FIELD": "username"}, {"uid": "ann"}, 200),
])  # fmt: skip
def test_former_settings_apply(
    ann: Any, window: dict[str, Any], settings_: dict[str, Any], claims: dict[str, Any], status: int
) -> None:
    window |= settings_
    assert refreshed(issued(ann, **claims)).status_code == status
    assert seen(access_to(ann, **claims)).status_code == status


def test_former_asymmetric_key_verifies(ann: Any, token: str, window: dict[str, Any]) -> None:
    key = generate_private_key(SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    window |= {"ALGORITHM": "ES256", "VERIFYING_KEY": public}
    assert refreshed(signed(claims_of(token), private, algorithm="ES256")).status_code == 200
    assert refreshed(token).status_code == 401
    window["VERIFYING_KEY"] = ""
    assert refreshed(signed(claims_of(issued(ann)), private, algorithm="ES256")).status_code == 401


# Access tokens


def test_old_access_token_works_until_it_expires(clock: TimeMachineFixture, ann: Any) -> None:
    access = access_to(ann)
    assert seen(access).data == "ann"
    assert seen(access, permission=RecentSignIn).data["code"] == "reauthentication_required"
    answer = APIClient().post(
        "/auth/logout", headers={"authorization": f"Bearer {access}", "cookie": "refreshToken=a.b.c"}
    )
    assert code(answer) == "token_not_valid"
    assert not Session.objects.exists()
    clock.shift(HOUR)
    assert seen(access).data["code"] == "token_expired"


def test_old_access_token_signs_out_everywhere(ann: Any, token: str) -> None:
    access = access_to(ann)
    assert APIClient().post("/auth/logout-all", headers={"authorization": f"Bearer {access}"}).status_code == 204
    assert seen(access).data["code"] == code(refreshed(token)) == "token_revoked"


def test_old_access_token_passes_the_checks_that_a_project_adds(ann: Any) -> None:
    class Strict(JWTAuthentication):
        def get_user(self, validated_token: Any) -> Any:
            user = super().get_user(validated_token)
            if validated_token.get("tenant") != "shop":
                raise InvalidToken("not of this shop")
            return user

    assert seen(access_to(ann, tenant="shop"), Strict).data == "ann"
    assert seen(access_to(ann), Strict).status_code == 401


def test_guard_steps_and_other_guards_refuse_old_access_tokens(ann: Any) -> None:
    access = access_to(ann)
    with pytest.raises(InvalidToken):
        JWTAuthentication().get_validated_token(access)
    with pytest.raises(InvalidToken):
        JWTAuthentication().get_user(AccessToken(access, verify=False))
    assert seen(access, StatelessJWTAuthentication).status_code == 401
    assert seen(access, scheme="DPoP").status_code == 401


def test_old_access_and_refresh_tokens_are_not_interchangeable(ann: Any, token: str) -> None:
    assert seen(token).status_code == 401
    assert refreshed(access_to(ann)).status_code == 401
    for act, text in ((legacy.present, access_to(ann)), (legacy.accept, token)):
        with pytest.raises(TokenNotValid):
            act(text)


@pytest.mark.django_db(transaction=True)
def test_user_deleted_during_an_exchange_is_refused(ann: Any) -> None:
    access = access_to(ann)
    with just_before("INSERT", lambda: type(ann)._default_manager.filter(pk=ann.pk).delete()):
        assert seen(access).data["code"] == "token_revoked"


# Races


@pytest.mark.django_db(transaction=True)
def test_twenty_parallel_exchanges_start_one_session(token: str) -> None:
    answers = in_parallel(*[lambda: str(RefreshToken.of(sessions.rotate(RefreshToken.claims(token, UNKNOWN))))] * 20)
    assert len(set(answers)) == 1, answers
    assert isinstance(answers[0], str)
    assert (Session.objects.get().generation, FormerToken.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_ending_everyones_sessions_reaches_an_exchange_in_progress(token: str) -> None:
    """The command locks no user, and the exchange has read before the command commits."""

    def end() -> None:
        cutoff = Cutoff(user=None, at=times.now(), auth_hash="")
        in_parallel(cutoff.save) if connection.vendor == "postgresql" else cutoff.save()

    with just_before('INSERT INTO "latchkey_session"', end), pytest.raises(TokenRevoked):
        RefreshToken.claims(token, UNKNOWN)
    assert code(refreshed(token)) == "token_revoked"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_blacklisting_in_progress_beats_an_exchange(token: str) -> None:
    with tables():
        outstand(token)
        begun = Event()

        def blacklist_slowly() -> None:
            with transaction.atomic():
                blacklist(token)
                begun.set()
                await_somebody_who_waits()

        def exchange() -> Any:
            begun.wait(30)
            return RefreshToken.claims(token, UNKNOWN)

        _, refusal = in_parallel(blacklist_slowly, exchange)
    assert isinstance(refusal, TokenRefused)
    assert not Session.objects.exists()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_exchange_in_progress_beats_blacklisting(token: str) -> None:
    with tables():
        outstand(token)
        begun = Event()

        def exchange() -> dict[str, Any]:
            with transaction.atomic():
                claims = RefreshToken.claims(token, UNKNOWN)
                begun.set()
                await_somebody_who_waits()
            return claims

        def blacklist_later() -> None:
            begun.wait(30)
            blacklist(token)

        claims, _ = in_parallel(exchange, blacklist_later)
        assert claims["sid"] == str(Session.objects.get().pk)
        assert code(refreshed(token)) == "token_revoked"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_ending_a_users_sessions_reaches_an_exchange_in_progress(ann: Any, token: str) -> None:
    begun = Event()

    def exchange() -> None:
        with transaction.atomic():
            RefreshToken.claims(token, UNKNOWN)
            begun.set()
            await_somebody_who_waits()

    def end() -> int:
        begun.wait(30)
        return sessions.revoke_all(ann, Reason.LOGOUT_ALL)

    assert in_parallel(exchange, end) == [None, 1]
    assert code(refreshed(token)) == "token_revoked"
