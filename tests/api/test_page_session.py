"""The shared sign-in of the admin and the browsable API: a session like any other. Everything that ends sessions ends
it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import cycle
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.contrib.sessions.models import Session as Kept
from django.core.management import call_command
from django.db import OperationalError, connection
from django.http import HttpRequest
from django.test import AsyncRequestFactory, Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from time_machine import TimeMachineFixture

from accounts.models import User
from accounts.page_session import AuthenticationMiddleware
from config.serving.page_sessions import SessionStore
from tests.api.people import Person, sign_in
from tests.api.visitors import ADMIN, API, Visitor, csrf_of
from tests.clients import PASSWORD, Browser
from tests.racing import just_before
from tokens.domain import sessions
from tokens.models import Reason, SecurityEvent, Session

pytestmark = pytest.mark.django_db

NEW = "the analytical engine"
PAGES = ("/api/me/", "/admin/")


@pytest.fixture
def sue() -> User:
    return User.objects.create_user("sue", "sue@example.com", PASSWORD, is_staff=True)


@pytest.fixture(params=[API, ADMIN], ids=["api", "admin"])
def visitor(request: pytest.FixtureRequest, sue: User) -> Visitor:
    """Return a staff member who has signed in at one of the two doors."""
    visitor = Visitor("sue", request.param)
    assert visitor.sign_in().status_code == 302
    return visitor


def statuses(visitor: Visitor) -> list[int]:
    return [visitor.get(path).status_code for path in PAGES]


IN, OUT = [200, 200], [401, 302]


def test_admin_and_browsable_api_share_a_sign_in(visitor: Visitor) -> None:
    assert statuses(visitor) == IN
    assert Session.objects.count() == 1


def test_sign_in_is_listed_and_logged_once(visitor: Visitor) -> None:
    (row,) = visitor.get("/api/sessions/", headers={"accept": "application/json"}).json()["results"]
    assert (row["id"], row["current"], row["ipAddress"]) == (str(visitor.session.pk), True, "127.0.0.1")
    event = SecurityEvent.objects.get()
    assert (event.kind, event.session) == ("login", visitor.session.pk)


def test_users_who_are_not_staff_only_use_the_api(ann: Person) -> None:
    visitor = Visitor()
    visitor.sign_in()
    assert statuses(visitor) == [200, 302]
    assert "not authorized" in visitor.get("/admin/login/").content.decode()


def test_former_staff_only_use_the_api(visitor: Visitor) -> None:
    User.objects.update(is_staff=False)
    assert statuses(visitor) == [200, 302]


def test_refused_sign_in_to_the_admin_starts_no_session(ann: Person) -> None:
    visitor = Visitor(door=ADMIN)
    assert visitor.sign_in().status_code == 200
    assert Session.objects.get().ip_address  # that of the registration
    assert not Kept.objects.exists()


# What ends it


def by(act: Callable[[Person], Any]) -> Callable[[Visitor], Any]:
    """Return a function with which the user ends it, with an access token in another browser."""
    return lambda _: act(sign_in("sue"))


def by_root(act: Callable[[Person, User], Any]) -> Callable[[Visitor], Any]:
    def end(visitor: Visitor) -> None:
        User.objects.create_superuser("root", password=PASSWORD)
        response = act(sign_in("root"), User.objects.get(username="sue"))
        assert response.status_code in (200, 302)

    return end


def command(*options: str) -> Callable[[Visitor], Any]:
    def end(visitor: Visitor) -> None:
        named = [option.format(sid=visitor.session.pk) for option in options]
        call_command("revoketokens", *named, stdout=StringIO())

    return end


def change_password_in_the_shell(visitor: Visitor) -> None:
    sue = User.objects.get()
    sue.set_password(NEW)
    sue.save()


def through_the_admin(root: Person, sue: User) -> Any:
    http = Client()
    http.force_login(root.user)
    session = Session.objects.filter(user=sue).get()
    chosen = {"action": "revoke_selected", "_selected_action": [str(session.pk)]}
    return http.post("/admin/latchkey/session/", chosen)


def fill_the_cap(visitor: Visitor) -> None:
    for _ in range(2):
        sign_in("sue")


ENDINGS: dict[str, Callable[[Visitor], Any]] = {
    "logout-all": by(lambda sue: sue.post("/auth/logout-all", access=sue.access)),
    "list": lambda visitor: sign_in("sue").call("delete", f"/api/sessions/{visitor.session.pk}/"),
    "revoke-others": by(lambda sue: sue.call("post", "/api/sessions/revoke-others/")),
    "own list": lambda visitor: visitor.send("DELETE", f"/api/sessions/{visitor.session.pk}/"),
    "password change": by(lambda sue: sue.change_password(new=NEW)),
    "shell": change_password_in_the_shell,
    "update": lambda _: User.objects.update(is_active=False),
    "staff": by_root(lambda root, sue: root.call("post", f"/api/users/{sue.pk}/revoke-sessions/")),
    "deactivation": by_root(lambda root, sue: root.call("patch", f"/api/users/{sue.pk}/", {"isActive": False})),
    "admin": by_root(through_the_admin),
    "command for all": command("--all"),
    "command for a user": command("--user", "sue"),
    "command for a session": command("--session", "{sid}"),
    "cap": fill_the_cap,
    "row deleted": lambda _: Session.objects.all().delete(),
    "user deleted": lambda _: User.objects.get().delete(),
}


# The path is where the visitor finds out: one middleware answers them all, so they take turns.
@pytest.mark.parametrize(("ending", "path"), [*zip(ENDINGS.values(), cycle(PAGES))], ids=ENDINGS.keys())
def test_everything_that_ends_sessions_ends_the_page_session(
    visitor: Visitor, settings: Settings, ending: Callable[[Visitor], Any], path: str
) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = 2
    ending(visitor)
    cookie = visitor.cookie
    response = visitor.get(path)
    assert response.status_code == dict(zip(PAGES, OUT, strict=True))[path]
    assert response.cookies["sessionid"]["max-age"] == 0
    assert not SessionStore().exists(cookie)
    User.objects.filter(username="sue").update(is_active=True)
    visitor.http.cookies["sessionid"] = cookie
    assert statuses(visitor) == OUT


def test_reactivation_revives_no_page_session(visitor: Visitor) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    root, path = sign_in("root"), f"/api/users/{User.objects.get(username='sue').pk}/"
    for is_active in (False, True):
        assert root.call("patch", path, {"isActive": is_active}).status_code == 200
    assert statuses(visitor) == OUT


@pytest.mark.parametrize(("late", "expected"), [(-1, IN), (1, OUT)])
def test_idle_sign_in_ends_with_its_session(
    visitor: Visitor, time_machine: TimeMachineFixture, late: int, expected: list[int]
) -> None:
    time_machine.move_to(visitor.session.expires_at + timedelta(seconds=late), tick=False)
    assert statuses(visitor) == expected


def test_use_of_the_admin_never_extends_past_the_absolute_end(
    visitor: Visitor, time_machine: TimeMachineFixture
) -> None:
    ends_at = visitor.session.ends_at()
    for left in range(84, 0, -6):
        time_machine.move_to(ends_at - timedelta(days=left), tick=False)
        assert visitor.get("/admin/").status_code == 200
    time_machine.move_to(ends_at + timedelta(seconds=1), tick=False)
    assert statuses(visitor) == OUT


@pytest.mark.parametrize("path", PAGES)
def test_page_views_write_at_most_once_a_minute(visitor: Visitor, time_machine: TimeMachineFixture, path: str) -> None:
    begun = visitor.session.rotated_at
    for seconds, writes in ((59, 0), (60, 2), (61, 0), (120, 2)):
        time_machine.move_to(begun + timedelta(seconds=seconds), tick=False)
        with CaptureQueriesContext(connection) as captured:
            response = visitor.get(path, headers={"user-agent": f"agent {seconds}"})
        assert response.status_code == 200
        written = [query["sql"] for query in captured if re.match("INSERT|UPDATE|DELETE", query["sql"])]
        assert len(written) == writes
        assert ("sessionid" in response.cookies) is bool(writes)
    session = visitor.session
    assert (session.rotated_at, session.user_agent) == (begun + timedelta(seconds=120), "agent 120")


@pytest.mark.parametrize("door", [API, ADMIN])
def test_signing_in_again_replaces_the_former(visitor: Visitor, door: str) -> None:
    former, cookie = visitor.session, visitor.cookie
    visitor.door = door
    assert visitor.sign_in(next="/admin/").status_code == 302
    former.refresh_from_db()
    assert former.revoked_reason == Reason.REPLACED
    assert visitor.session != former
    assert statuses(visitor) == IN
    copy = Visitor("sue")
    copy.http.cookies["sessionid"] = cookie
    assert statuses(copy) == OUT
    assert Kept.objects.count() == 1


def test_another_user_in_the_same_browser_replaces_the_former(visitor: Visitor, ann: Person) -> None:
    former = visitor.session
    visitor.username, visitor.door = "ann", API
    assert visitor.sign_in().status_code == 302
    former.refresh_from_db()
    assert former.revoked_reason == Reason.REPLACED
    assert '"username": "ann"' in visitor.get().content.decode().replace("&quot;", '"')


def test_refused_sign_in_leaves_the_former_alone(visitor: Visitor) -> None:
    assert visitor.sign_in("wrong").status_code == 200
    assert statuses(visitor) == IN


@pytest.mark.parametrize("path", ["/api/sign-out", "/admin/logout/"])
def test_signing_out_of_either_ends_the_session(visitor: Visitor, path: str) -> None:
    session, cookie = visitor.session, visitor.cookie
    csrf = csrf_of(visitor.get("/api/"))
    assert visitor.http.post(path, {"csrfmiddlewaretoken": csrf}).status_code in (200, 302)
    session.refresh_from_db()
    assert (session.revoked_reason, session.revoked_by) == (Reason.LOGOUT, "sue")
    assert SecurityEvent.objects.filter(kind="logout", session=session.pk).count() == 1
    assert not Kept.objects.exists()
    visitor.http.cookies["sessionid"] = cookie
    assert statuses(visitor) == OUT


# The own password


def change_own_password(visitor: Visitor) -> Any:
    form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    csrf = csrf_of(visitor.get("/api/"))
    return visitor.http.post("/admin/password_change/", {**form, "csrfmiddlewaretoken": csrf})


def test_own_password_change_in_the_admin_ends_every_session_and_starts_a_new_one(visitor: Visitor) -> None:
    former, cookie, elsewhere = visitor.session, visitor.cookie, sign_in("sue")
    assert change_own_password(visitor)["Location"] == "/admin/password_change/done/"
    assert statuses(visitor) == IN
    former.refresh_from_db()
    assert former.revoked_reason == Reason.PASSWORD
    assert elsewhere.refresh().json()["code"] == "token_revoked"
    assert Session.objects.live().get() == visitor.session
    assert visitor.session.authenticated_at == former.created_at
    copy = Visitor("sue")
    copy.http.cookies["sessionid"] = cookie
    assert statuses(copy) == OUT
    assert SecurityEvent.objects.filter(kind="password_changed").count() == 1


def test_session_ended_at_that_moment_changes_no_password(visitor: Visitor) -> None:
    with just_before("SAVEPOINT", lambda: Session.objects.update(revoked_at=datetime.now(UTC))):
        response = change_own_password(visitor)
    assert (response.status_code, response["Location"]) == (302, "/admin/password_change/")
    assert User.objects.get().check_password(PASSWORD)
    assert statuses(visitor) == OUT


def test_superuser_needs_the_current_password_to_change_their_own(visitor: Visitor) -> None:
    User.objects.update(is_superuser=True)
    page = f"/admin/accounts/user/{User.objects.get().pk}/password/"
    form = {"usable_password": "true", "password1": NEW, "password2": NEW}
    csrf = csrf_of(visitor.get("/api/"))
    response = visitor.http.post(page, {**form, "csrfmiddlewaretoken": csrf})
    assert (response.status_code, response["Location"]) == (302, "/admin/password_change/")
    assert User.objects.get().check_password(PASSWORD)


# Odd cookies


def test_two_cookies_sign_nobody_in_and_end_nothing(visitor: Visitor) -> None:
    thief = Visitor("sue")
    thief.sign_in()
    for first, second in ((visitor, thief), (thief, visitor)):
        for joint in ("; ", ", "):
            header = f"sessionid={first.cookie}{joint}sessionid={second.cookie}"
            for path, status in zip(PAGES, OUT, strict=True):
                response = Client().get(path, headers={"cookie": header, "accept": "application/json"})
                assert response.status_code == status
                assert "sessionid" not in response.cookies
    page = Client().get("/", headers={"cookie": "x=1, sessionid=a, sessionid=b"})
    assert page.status_code == 200
    assert statuses(visitor) == statuses(thief) == IN


def test_django_session_without_one_of_ours_is_refused(sue: User) -> None:
    visitor = Visitor("sue")
    kept = SessionStore()
    kept.update({auth.SESSION_KEY: str(sue.pk), auth.HASH_SESSION_KEY: sue.get_session_auth_hash()})
    kept.save()
    visitor.http.cookies["sessionid"] = str(kept.session_key)
    assert statuses(visitor) == OUT
    assert not Kept.objects.exists()


def test_access_token_ignores_the_cookie(visitor: Visitor, ann: Person) -> None:
    visitor.http.cookies["sessionid"] = visitor.cookie
    with CaptureQueriesContext(connection) as captured:
        bearer = {"accept": "application/json", "authorization": f"Bearer {ann.access}"}
        assert visitor.http.get("/api/me/", headers=bearer).json()["username"] == "ann"
    assert not any("django_session" in query["sql"] for query in captured)


def test_outage_signs_nobody_out(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(sessions, "extend", fail)
        pages = [visitor.get(path) for path in PAGES]
    for page in pages:
        assert page.status_code == 503
        assert "sessionid" not in page.cookies
    assert statuses(visitor) == IN


# Other ways in


def test_djangos_login_starts_a_session_as_well(sue: User, ann: Person) -> None:
    visitor = Visitor("sue")
    visitor.http.force_login(sue)
    session = visitor.session
    assert session.user == sue
    assert SecurityEvent.objects.get(user=sue).session == session.pk
    visitor.http.force_login(ann.user)
    assert visitor.session.user == ann.user
    visitor.http.logout()
    assert not Session.objects.live().filter(pk=session.pk, revoked_reason=Reason.LOGOUT).exists()


def test_asynchronous_code_sees_the_same_user(visitor: Visitor) -> None:
    def user_of(cookie: str) -> Any:
        request: HttpRequest = AsyncRequestFactory().get("/")
        request.session = SessionStore(cookie)
        AuthenticationMiddleware(lambda _: None).process_request(request)  # type: ignore[arg-type]
        return async_to_sync(request.auser)()

    assert user_of(visitor.cookie).get_username() == "sue"
    Browser().login("sue")
    sessions.revoke(visitor.session, Reason.REVOKED)
    assert user_of(visitor.cookie).is_anonymous
