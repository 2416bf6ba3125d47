"""The browsable API: signing in, staying signed in while it is used, and being signed out once the session has
ended."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core import signing
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.models import User
from config.serving.page_sessions import SessionStore
from tests.api.people import Person, register
from tests.api.test_schema import endpoints
from tests.api.visitors import Visitor, csrf_of
from tests.clients import PASSWORD
from tokens.domain import sessions
from tokens.models import Bucket, Reason, SecurityEvent, Session


@pytest.fixture
def visitor(ann: Person) -> Visitor:
    visitor = Visitor()
    assert visitor.sign_in().status_code == 302
    return visitor


def test_signing_in_sets_a_cookie_that_no_script_reads(ann: Person, settings: Settings) -> None:
    settings.SESSION_COOKIE_SECURE = True
    visitor = Visitor()
    response = visitor.sign_in()
    assert (response.status_code, response["Location"]) == (302, "/api/")
    assert "no-store" in response["Cache-Control"]
    cookie = response.cookies["sessionid"]
    attributes = {name: value for name, value in cookie.items() if value and name != "expires"}
    assert attributes == {
        "path": "/",
        "max-age": pytest.approx(7 * 24 * 3600, abs=2),
        "httponly": True,
        "secure": True,
        "samesite": "Strict",
    }


def test_cookie_alone_signs_the_visitor_in(visitor: Visitor) -> None:
    page = visitor.get()
    assert page.status_code == 200
    assert '"username": "ann"' in page.content.decode().replace("&quot;", '"')
    assert page["Cache-Control"] == "no-store"
    assert page["Content-Type"] == "text/html; charset=utf-8"


def test_sign_in_is_a_session_like_any_other(visitor: Visitor, ann: Person) -> None:
    session = visitor.session
    listed = ann.call("get", "/api/sessions/").json()["results"]
    assert str(session.pk) in [row["id"] for row in listed]
    assert SecurityEvent.objects.filter(kind="login", session=session.pk).count() == 1


def test_wrong_password_is_shown_and_logged(ann: Person) -> None:
    visitor = Visitor()
    page = visitor.sign_in("wrong")
    assert page.status_code == 200
    assert "The username or password is wrong." in page.content.decode()
    assert "sessionid" not in page.cookies
    assert SecurityEvent.objects.filter(kind="login_failed").count() == 1


def test_deactivated_user_gets_the_same_message(ann: Person) -> None:
    User.objects.update(is_active=False)
    assert "The username or password is wrong." in Visitor().sign_in().content.decode()


def test_user_deactivated_at_that_moment_gets_the_same_message(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def deactivate_first(*args: Any, **kwargs: Any) -> Session:
        User.objects.update(is_active=False)
        return start(*args, **kwargs)

    start = sessions.start
    monkeypatch.setattr(sessions, "start", deactivate_first)
    assert "The username or password is wrong." in Visitor().sign_in().content.decode()
    assert Session.objects.count() == 1  # that of the registration


def test_missing_password_is_a_field_error(ann: Person) -> None:
    assert "This field is required." in Visitor().sign_in("").content.decode()


def test_guesses_share_the_limits_of_every_login(ann: Person, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"login": (1, 60.0), "login_anywhere": (5, 300.0)}
    assert Visitor().sign_in("wrong").status_code == 200
    page = Visitor().sign_in()
    assert page.status_code == 429
    assert 0 < int(page["Retry-After"]) <= 60
    assert "sessionid" not in page.cookies


def test_ip_address_that_tries_many_names_is_throttled_as_at_every_login(ann: Person, settings: Settings) -> None:
    settings.TOKENS_THROTTLE_RATES = {"login": "2/min"}
    assert [Visitor().sign_in("wrong").status_code for _ in range(3)] == [200, 200, 429]
    assert ann.login("ben").status_code == 429


@pytest.mark.parametrize(
    ("asked", "reached"),
    [
        ("/api/users/?search=a", "/api/users/?search=a"),
        ("https://evil.example/", "/api/"),
        ("//evil.example/", "/api/"),
        ("javascript:alert(1)", "/api/"),
    ],
)
def test_signing_in_redirects_back_but_never_to_another_site(ann: Person, asked: str, reached: str) -> None:
    assert Visitor().sign_in(next=asked)["Location"] == reached


def test_another_site_cannot_submit_the_sign_in_form(ann: Person) -> None:
    response = Visitor().http.post("/api/sign-in", {"username": "ann", "password": PASSWORD})
    assert response.status_code == 403
    assert "sessionid" not in response.cookies


def test_signing_out_ends_the_session(visitor: Visitor) -> None:
    session = visitor.session
    response = visitor.http.post("/api/sign-out", {"csrfmiddlewaretoken": csrf_of(visitor.get())})
    assert (response.status_code, response["Location"]) == (302, "/api/")
    assert response.cookies["sessionid"]["max-age"] == 0
    session.refresh_from_db()
    assert session.revoked_reason == Reason.LOGOUT


def test_signing_out_without_a_session_is_no_error(ann: Person) -> None:
    visitor = Visitor()
    csrf = csrf_of(visitor.http.get("/api/sign-in"))
    assert visitor.http.post("/api/sign-out", {"csrfmiddlewaretoken": csrf}).status_code == 302


def test_password_field_is_known_to_password_managers(visitor: Visitor) -> None:
    (field,) = re.findall(r'<input name="currentPassword"[^>]*>', visitor.get("/api/me/").content.decode())
    assert 'type="password"' in field
    assert 'autocomplete="current-password"' in field


@pytest.mark.django_db
def test_get_changes_nothing() -> None:
    """A superuser opens every endpoint."""
    root = register("root")
    User.objects.update(is_staff=True, is_superuser=True)
    tables = [model for model in apps.get_models() if model._meta.app_label in {"accounts", "latchkey"}]

    def rows() -> Any:
        return [list(model._default_manager.values().order_by("pk")) for model in tables if model is not Bucket]

    root.refresh()
    root.call("get", "/api/me/")  # confirms what the refresh gave
    before = rows()
    asked = [endpoint.partition(" ")[2] for endpoint in endpoints() if endpoint.startswith("get ")]
    for path in asked:
        root.call(
            "get", path.replace("{id}", str(root.user.pk) if "/users/" in path else str(Session.objects.get().pk))
        )
    assert len(asked) > 10
    assert rows() == before


@pytest.mark.parametrize("path", ["/api/sign-out", "/api/sessions/revoke-others/"])
def test_link_does_nothing(visitor: Visitor, path: str) -> None:
    assert visitor.get(path).status_code == 405
    assert Session.objects.filter(revoked_at=None).count() == 2


def change_password(user: User) -> None:
    user.set_password("something else entirely")
    user.save()


ENDINGS: dict[str, Callable[[User], Any]] = {
    "revoked": lambda user: sessions.revoke_all(user, Reason.REVOKED),
    "deactivated": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    "password changed": change_password,
    "session deleted": lambda _: Session.objects.all().delete(),
    "user deleted": User.delete,
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_visitor_is_signed_out_on_the_next_click_after_the_session_ended(
    visitor: Visitor, ending: Callable[[User], Any]
) -> None:
    ending(User.objects.get())
    page = visitor.get()
    assert page.status_code == 401
    assert "Your session has ended" in page.content.decode()
    assert page.cookies["sessionid"]["max-age"] == 0
    assert page.cookies["sessionid"]["path"] == "/"
    assert "Your session has ended" not in visitor.get("/api/").content.decode()


def test_public_pages_stay_open_when_signed_out(visitor: Visitor) -> None:
    sessions.revoke_all(User.objects.get(), Reason.REVOKED)
    assert visitor.get("/api/", headers={"accept": "application/json"}).status_code == 200
    assert visitor.get("/api/schema/", headers={"accept": "application/json"}).status_code == 200


def test_use_extends_the_session(visitor: Visitor, time_machine: TimeMachineFixture) -> None:
    start = datetime.now(UTC)
    for day in range(6, 60, 6):
        time_machine.move_to(start + timedelta(days=day), tick=False)
        page = visitor.get()
        assert page.status_code == 200
        assert page.cookies["sessionid"]["max-age"] in range(7 * 24 * 3600 - 1, 7 * 24 * 3600 + 1)
    session = visitor.session
    assert session.rotated_at == start + timedelta(days=54)
    assert session.generation == 0


@pytest.mark.parametrize(("late", "status"), [(-1, 200), (1, 401)])
def test_idle_visitor_is_signed_out(visitor: Visitor, time_machine: TimeMachineFixture, late: int, status: int) -> None:
    time_machine.move_to(visitor.session.expires_at + timedelta(seconds=late), tick=False)
    assert visitor.get().status_code == status


def test_use_never_extends_past_the_absolute_end(visitor: Visitor, time_machine: TimeMachineFixture) -> None:
    ends_at = visitor.session.ends_at()
    for left in range(84, 0, -6):
        time_machine.move_to(ends_at - timedelta(days=left), tick=False)
        page = visitor.get()
        assert page.status_code == 200
        assert page.cookies["sessionid"]["max-age"] <= timedelta(days=left).total_seconds()
    time_machine.move_to(ends_at + timedelta(seconds=1), tick=False)
    assert visitor.get().status_code == 401


def test_cookie_survives_key_rotation(visitor: Visitor, settings: Settings, time_machine: TimeMachineFixture) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key " * 10
    time_machine.move_to(datetime.now(UTC) + timedelta(minutes=1))
    assert visitor.get().status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert visitor.get().status_code == 200


def test_simultaneous_use_does_not_end_the_session(
    visitor: Visitor, settings: Settings, time_machine: TimeMachineFixture
) -> None:
    """After a change of the key, both write a new fingerprint; the second one reads again."""
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key " * 10
    time_machine.move_to(datetime.now(UTC) + timedelta(minutes=1))
    use = sessions._use
    done: list[int] = []

    def after_another(session: Session, *args: Any, **changes: Any) -> bool:
        if not done:
            done.append(1)
            Session.objects.filter(pk=session.pk).update(auth_hash=session.user.get_session_auth_hash())
        return use(session, *args, **changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "_use", after_another)
        assert visitor.get().status_code == 200


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "x",
        "a" * 32,
        signing.dumps({"sid": "00000000-0000-0000-0000-000000000000", "_auth_user_id": "1"}),
    ],
    ids=["empty", "garbage", "unknown", "signed"],
)
def test_forged_cookie_is_refused(ann: Person, forged: str) -> None:
    visitor = Visitor()
    visitor.http.cookies["sessionid"] = forged
    assert visitor.get().status_code == 401


def test_token_and_cookie_are_not_interchangeable(visitor: Visitor, ann: Person) -> None:
    other = Visitor()
    for token in (ann.access, ann.cookie):
        other.http.cookies["sessionid"] = token
        assert other.get().status_code == 401
    assert ann.get("/api/me/", access=visitor.cookie).json()["code"] == "token_not_valid"
    assert ann.refresh(visitor.cookie).json()["code"] == "token_not_valid"


def test_cookie_of_another_user_s_session_is_refused(visitor: Visitor, ben: Person) -> None:
    kept = SessionStore(visitor.cookie)
    kept["_auth_user_id"] = str(ben.user.pk)
    kept.save()
    assert visitor.get().status_code == 401


UNSAFE = [
    ("POST", "/api/sessions/revoke-others/", ""),
    ("PATCH", "/api/me/", '{"username": "hacked"}'),
    ("DELETE", "/api/sessions/{other}/", ""),
]


@pytest.mark.parametrize(("method", "path", "body"), UNSAFE)
def test_every_change_needs_the_csrf_token(visitor: Visitor, ann: Person, method: str, path: str, body: str) -> None:
    other = Session.objects.exclude(pk=visitor.session.pk).get()
    path = path.format(other=other.pk)
    for token in ("", "a" * 32, csrf_of(Visitor().get("/api/"))):
        headers = {"accept": "application/json", "x-csrftoken": token}
        response = visitor.http.generic(method, path, body, "application/json", headers=headers)
        assert (response.status_code, response.json()["code"]) == (403, "csrf_failed")
    assert ann.user.username == "ann"
    assert Session.objects.filter(revoked_at=None).count() == 2
    assert visitor.send(method, path, body).status_code == 200


def test_another_origin_is_refused_even_with_the_csrf_token(visitor: Visitor) -> None:
    response = visitor.send("POST", "/api/sessions/revoke-others/", HTTP_ORIGIN="https://evil.example")
    assert response.status_code == 403
    assert Session.objects.filter(revoked_at=None).count() == 2


def test_access_token_needs_no_csrf_token_even_beside_the_cookie(visitor: Visitor, ann: Person) -> None:
    bearer = {"accept": "application/json", "authorization": f"Bearer {ann.access}"}
    response = visitor.http.generic("POST", "/api/sessions/revoke-others/", headers=bearer)
    assert response.json() == {"revoked": 1}
    assert visitor.get().status_code == 401


def test_views_without_authentication_ignore_the_cookie(visitor: Visitor) -> None:
    sessions.revoke_all(User.objects.get(), Reason.REVOKED)
    response = visitor.get("/api/schema/")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert "sessionid" not in response.cookies


def test_outage_signs_nobody_out(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "extend", fail)
        page = visitor.get()
    assert page.status_code == 503
    assert "sessionid" not in page.cookies
    assert visitor.get().status_code == 200


def test_list_of_sessions_has_a_button_for_each(visitor: Visitor) -> None:
    page = visitor.get("/api/sessions/").content.decode()
    for session in Session.objects.all():
        assert f'action="http://testserver/api/sessions/{session.pk}/" method="post" data-method="DELETE"' in page
    assert page.count(">here<") == 1
    assert "/api/sessions/revoke-others/" in page


def test_list_of_users_links_to_each(superuser: Person, ann: Person) -> None:
    visitor = Visitor("root")
    visitor.sign_in()
    page = visitor.get("/api/users/").content.decode()
    assert f'<a href="http://testserver{ann.path}">ann</a>' in page
    page = visitor.get(ann.path).content.decode()
    assert 'name="isActive"' in page
    assert f"{ann.path}revoke-sessions/" in page


def test_list_without_detail_pages_is_shown(visitor: Visitor) -> None:
    page = visitor.get("/api/security-events/?pageSize=1")
    assert page.status_code == 200
    assert "Items" not in page.content.decode()
    assert 'rel="next"' in page.content.decode()


def test_form_shows_its_errors(visitor: Visitor) -> None:
    page = visitor.send("PATCH", "/api/me/", json.dumps({"username": "", "email": "new\ud800"}))
    assert page.status_code == 400
    assert '<span class="error">This field may not be blank.</span>' in page.content.decode()
    assert 'value="new?"' in page.content.decode()


def test_pages_have_no_inline_script_or_style(visitor: Visitor) -> None:
    for path in ("/api/", "/api/me/", "/api/sessions/", "/api/security-events/", "/api/sign-in", "/api/schema/"):
        page = visitor.get(path).content.decode()
        assert "<style" not in page
        assert " style=" not in page
        assert " onclick=" not in page
        assert page.count("<script") == page.count('<script type="module" src="/static/')


@pytest.mark.parametrize("name", ["obtain_pair", "refresh_pair", "verify", "blacklist"])
def test_token_endpoint_is_a_form_in_a_browser_and_json_elsewhere(db: None, name: str) -> None:
    path = reverse(f"latchkey:{name}")
    page = Visitor().get(path)
    assert (page.status_code, page["Content-Type"]) == (405, "text/html; charset=utf-8")
    assert 'data-method="POST"' in page.content.decode()
    assert Client().get(path).json()["code"] == "method_not_allowed"


def test_token_form_answers_with_the_tokens(ann: Person) -> None:
    visitor = Visitor()
    assert 'name="password"' in visitor.get("/api/token/").content.decode()
    page = visitor.http.post("/api/token/", {"username": "ann", "password": PASSWORD})
    assert (page.status_code, page["Cache-Control"]) == (200, "no-store")
    assert "&quot;refresh&quot;" in page.content.decode()
    wrong = visitor.http.post("/api/token/", {"username": "ann"})
    assert (wrong.status_code, "This field is required." in wrong.content.decode()) == (400, True)


def test_passkey_options_have_no_form(db: None) -> None:
    assert Visitor().get("/api/token/passkey/options/")["Content-Type"] == "application/json"
