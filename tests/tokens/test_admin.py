import re
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.exceptions import FieldDoesNotExist
from django.db import connection
from django.test import Client as Http
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App, Browser
from tokens import admin
from tokens.domain import sessions
from tokens.domain.client import Client
from tokens.models import Reason, SecurityEvent, Session
from tokens.tokens import AccessToken, RefreshToken

SESSIONS = "/admin/latchkey/session/"
EVENTS = "/admin/latchkey/securityevent/"

FIREFOX = Client("192.0.2.1", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
NOBODY = "00000000-0000-7000-8000-000000000000"

Clerk = Callable[..., Http]

pytestmark = pytest.mark.usefixtures("django_sign_in")


@pytest.fixture
def bob(db: None, django_user_model: Any) -> Any:
    return django_user_model._default_manager.create_user("bob", email="bob@example.com", password=PASSWORD)


@pytest.fixture
def clerk(db: None, django_user_model: Any) -> Clerk:
    """Sign in a staff member with these permissions."""

    def signed_in(*permissions: str) -> Http:
        user = django_user_model._default_manager.create_user("clerk", password=PASSWORD, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        http = Http(REMOTE_ADDR="198.51.100.7", headers={"user-agent": "the clerk's"})
        http.force_login(user)
        return http

    return signed_in


@pytest.fixture
def every_status(ann: Any, bob: Any, django_user_model: Any, time_machine: TimeMachineFixture) -> dict[str, Session]:
    """Sessions of every status, by the text in the list."""
    make = django_user_model._default_manager.create_user
    carl, dora = make("carl", password=PASSWORD), make("dora", password=PASSWORD)
    expired = sessions.start(bob)
    time_machine.move_to(timezone.now() + timedelta(days=7))
    live, revoked, deactivated, changed = map(sessions.start, (ann, ann, carl, dora))
    sessions.revoke(revoked, Reason.LOGOUT)
    # By a statement that sends no signal.
    django_user_model._default_manager.filter(pk=carl.pk).update(is_active=False)
    dora.set_password("another one")
    dora.save()
    return {
        "active": live,
        "ended: signed out": revoked,
        "expired": expired,
        "user deactivated": deactivated,
        "ended by a password change": changed,
    }


def column(page: Any, name: str) -> list[str]:
    """Return the texts in a column of a list."""
    cells = re.findall(rf'<t[dh] class="field-{name}[^"]*">(.*?)</t[dh]>', page.content.decode())
    return [unescape(re.sub(r"<[^>]*>", "", cell)) for cell in cells]


def listed(page: Any) -> list[Any]:
    return list(page.context["cl"].result_list)


def hierarchy(page: Any) -> list[str]:
    """Return the texts in the date hierarchy."""
    # Django 6.1 begins it with a label.
    links = re.findall(
        r'class="toplinks"[^>]*>(?:\s*<span.*?</span>)?(.*?)</(?:nav|ul)>', page.content.decode(), re.DOTALL
    )
    texts = [text.strip() for text in re.sub(r"<[^>]*>|&lsaquo;", "\n", "".join(links)).splitlines()]
    return [text for text in texts if text]


def act(http: Http, action: str, *chosen: Session, query: str = "", **extra: Any) -> Any:
    """Run an action of the list on the sessions; return the page that follows."""
    data = {"action": action, "_selected_action": [session.pk for session in chosen], **extra}
    return http.post(SESSIONS + query, data, follow=True)


def messages_of(page: Any) -> list[str]:
    return [str(message) for message in page.context["messages"]]


def live() -> list[Session]:
    return list(Session.objects.live().order_by("pk"))


# Looking at sessions


def test_list_shows_status_user_device_and_times(ann: Any, admin_client: Http) -> None:
    session = sessions.start(ann, FIREFOX)
    page = admin_client.get(SESSIONS)
    assert (column(page, "user"), column(page, "status")) == (["ann"], ["active"])
    assert (column(page, "device"), column(page, "ip_address")) == (["Firefox on Linux"], ["192.0.2.1"])
    assert column(page, "last_used")[0].startswith("last used ")
    assert column(page, "expires")[0].startswith("expires ")
    assert len(column(page, "created_at")) == 1
    assert column(page, "ended") == ["-"]
    assert f"{SESSIONS}{session.pk}/change/" in page.content.decode()


def test_status_says_how_a_session_ended(every_status: dict[str, Session], admin_client: Http) -> None:
    page = admin_client.get(SESSIONS)
    shown = dict(zip(column(page, "status"), listed(page), strict=True))
    assert shown == every_status


def test_list_shows_when_a_session_ended_by_whom_and_from_where(
    ann: Any, admin_user: Any, clerk: Clerk, settings: Settings, time_machine: TimeMachineFixture
) -> None:
    settings.TIME_ZONE = "UTC"
    time_machine.move_to("2030-01-01T12:00Z", tick=False)
    session = sessions.start(ann)
    page = act(clerk("view_session", "change_session"), "revoke_selected", session)
    assert (column(page, "status"), column(page, "ended")) == (
        ["ended: revoked by staff"],
        ["Jan. 1, 2030, noon by clerk from 198.51.100.7"],
    )
    # The name stays after the clerk's account is gone.
    get_user_model()._default_manager.get(username="clerk").delete()
    http = Http()
    http.force_login(admin_user)
    assert "by clerk" in column(http.get(SESSIONS), "ended")[0]


def test_list_names_nobody_if_no_person_ended_a_session(ann: Any, admin_client: Http) -> None:
    sessions.revoke(sessions.start(ann), Reason.COMMAND)
    (ended,) = column(admin_client.get(SESSIONS), "ended")
    assert ended
    assert "by" not in ended
    assert "from" not in ended


@pytest.mark.parametrize(("reason", "sort"), [(None, "active"), (Reason.LOGOUT, "ended"), (Reason.REUSED, "reused")])
def test_status_has_a_colour(ann: Any, admin_client: Http, reason: Reason | None, sort: str) -> None:
    session = sessions.start(ann)
    if reason:
        sessions.revoke(session, reason)
    for page in (SESSIONS, f"{SESSIONS}{session.pk}/change/"):
        html = admin_client.get(page).content.decode()
        assert f'<span class="session-status {sort}">' in html
        assert "latchkey/admin.css" in html


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("active", ["active"]),
        ("expired", ["expired"]),
        ("ended", ["ended by a password change", "ended: signed out", "user deactivated"]),
    ],
)
def test_status_filter_matches_the_column(
    every_status: dict[str, Session], admin_client: Http, value: str, expected: list[str]
) -> None:
    page = admin_client.get(f"{SESSIONS}?status={value}")
    assert sorted(column(page, "status")) == sorted(expected)
    assert page.context["cl"].result_count == len(expected)


def test_status_filter_works_without_is_active(ann: Any, admin_client: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions.start(ann)
    find = get_user_model()._meta.get_field

    def get_field(name: str) -> Any:
        if name == "is_active":
            raise FieldDoesNotExist
        return find(name)

    monkeypatch.setattr(get_user_model()._meta, "get_field", get_field)
    assert column(admin_client.get(f"{SESSIONS}?status=active"), "status") == ["active"]
    assert column(admin_client.get(f"{SESSIONS}?status=ended"), "status") == []


def test_list_is_filtered_by_reason_and_day(every_status: dict[str, Session], admin_client: Http) -> None:
    page = admin_client.get(f"{SESSIONS}?revoked_reason__exact=logout")
    assert listed(page) == [every_status["ended: signed out"]]
    day = timezone.localtime(every_status["expired"].created_at)  # as the admin counts days
    page = admin_client.get(
        f"{SESSIONS}?created_at__year={day.year}&created_at__month={day.month}&created_at__day={day.day}"
    )
    assert listed(page) == [every_status["expired"]]


def test_list_is_newest_first(ann: Any, admin_client: Http) -> None:
    begun = [sessions.start(ann) for _ in range(5)]
    assert listed(admin_client.get(SESSIONS)) == sorted(begun, key=lambda session: session.pk, reverse=True)


@pytest.mark.parametrize("path", [SESSIONS, EVENTS])
def test_date_hierarchy_goes_from_years_to_days(
    ann: Any, admin_user: Any, settings: Settings, time_machine: TimeMachineFixture, path: str
) -> None:
    settings.TIME_ZONE = "Asia/Kathmandu"
    for moment in ("2029-12-28T12:00Z", "2029-12-31T18:14:59Z", "2029-12-31T18:15:00Z", "2030-01-02T12:00Z"):
        time_machine.move_to(moment, tick=False)
        sessions.start(ann)
    http = Http()
    http.force_login(admin_user)
    assert hierarchy(http.get(path)) == ["2029", "2030"]
    assert hierarchy(http.get(f"{path}?created_at__year=2029")) == ["All dates", "December 2029"]
    assert hierarchy(http.get(f"{path}?created_at__year=2029&created_at__month=12")) == [
        "2029",
        *["December 28", "December 29", "December 30", "December 31"],
    ]
    month = http.get(f"{path}?created_at__year=2030&created_at__month=1")
    assert hierarchy(month) == ["2030", "January 1", "January 2"]
    day = http.get(f"{path}?created_at__year=2030&created_at__month=1&created_at__day=1")
    assert (hierarchy(day), len(listed(day))) == (["January 2030", "January 1"], 1)


@pytest.mark.parametrize("path", [SESSIONS, EVENTS])
def test_date_hierarchy_of_an_empty_list_is_empty(admin_client: Http, path: str) -> None:
    assert hierarchy(admin_client.get(path)) == []


@pytest.mark.parametrize("path", [SESSIONS, EVENTS])
def test_list_reads_one_page_by_primary_key(ann: Any, admin_client: Http, path: str) -> None:
    sessions.start(ann)
    with CaptureQueriesContext(connection) as captured:
        admin_client.get(path)
    key = f'"latchkey_{path.split("/")[-2]}"."id"'
    assert [
        " ".join(re.findall("COUNT|ORDER BY .*", query["sql"])) for query in captured if key[:-5] in query["sql"]
    ] == [
        "COUNT",
        f"ORDER BY {key} DESC",
        f"ORDER BY {key} ASC LIMIT 1",
        f"ORDER BY {key} DESC LIMIT 1",
    ]


@pytest.mark.parametrize("term", ["ann", "ANN@example", "192.0.2.1", "{0}", '"ann" 192.0'])
def test_search_finds_by_user_address_and_session(ann: Any, bob: Any, admin_client: Http, term: str) -> None:
    session = sessions.start(ann, FIREFOX)
    sessions.start(bob, Client("203.0.113.9"))
    page = admin_client.get(SESSIONS, {"q": term.format(session.pk)})
    assert listed(page) == [session]


@pytest.mark.parametrize("term", ["nobody", NOBODY, NOBODY[1:], "%", "_", "ann bob", "x" * 5000, b"\xed\xa0\x80"])
def test_other_search_terms_find_nothing(ann: Any, admin_client: Http, term: str | bytes) -> None:
    sessions.start(ann, FIREFOX)
    assert listed(admin_client.get(SESSIONS, {"q": term})) == []


@pytest.mark.parametrize("term", ["'", '"', "\0"])
def test_empty_search_is_no_error(ann: Any, admin_client: Http, term: str) -> None:
    assert admin_client.get(SESSIONS, {"q": term}).status_code == 200


def test_search_works_without_an_email_field(ann: Any, admin_client: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.start(ann)
    monkeypatch.setattr(get_user_model(), "EMAIL_FIELD", "nowhere")
    assert listed(admin_client.get(f"{SESSIONS}?q=ann")) == [session]
    assert listed(admin_client.get(f"{SESSIONS}?q=example.com")) == []


@pytest.mark.parametrize("path", [SESSIONS, EVENTS])
def test_list_costs_the_same_at_any_length(ann: Any, bob: Any, admin_client: Http, path: str) -> None:
    sessions.start(ann)
    costs = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(path)
        costs.append([query["sql"].split("WHERE")[0] for query in captured])
        for user in (ann, bob) * 10:
            sessions.start(user)
    assert costs[0] == costs[1]
    assert len([sql for sql in costs[0] if "COUNT(" in sql]) == 1


def test_session_page_shows_everything_but_secrets(ann: Any, admin_client: Http) -> None:
    session = sessions.start(ann, FIREFOX)
    page = admin_client.get(f"{SESSIONS}{session.pk}/change/").content.decode()
    for shown in (str(session.pk), "ann", "active", "Firefox on Linux", FIREFOX.user_agent, "192.0.2.1"):
        assert shown in unescape(page)
    assert 'name="_save"' not in page


def test_no_page_shows_a_secret(ann: Any, admin_client: Http) -> None:
    session = sessions.start(ann, FIREFOX)
    act(admin_client, "revoke_selected", session)
    pages = [
        admin_client.get(SESSIONS),
        admin_client.get(f"{SESSIONS}{session.pk}/change/"),
        admin_client.get(f"{SESSIONS}{session.pk}/history/"),
        admin_client.get(f"{SESSIONS}{session.pk}/delete/"),
        act(admin_client, "delete_selected", session),
        admin_client.get(EVENTS),
        admin_client.get(f"{EVENTS}{SecurityEvent.objects.all()[0].pk}/change/"),
    ]
    token = RefreshToken.of(session)
    secrets = [session.secret.hex(), b64encode(session.secret).decode(), repr(session.secret), session.auth_hash]
    secrets += [token["jti"], str(token), str(AccessToken.of(session)).split(".")[1]]
    for page in pages:
        assert page.status_code == 200
        assert not [secret for secret in secrets if secret in unescape(page.content.decode())]


# Changing nothing


@pytest.mark.parametrize("path", [SESSIONS, EVENTS])
def test_sessions_cannot_be_added_or_changed(ann: Any, admin_client: Http, path: str) -> None:
    session = sessions.start(ann)
    row = session if path == SESSIONS else SecurityEvent.objects.get()
    assert admin_client.get(f"{path}add/").status_code == 403
    assert admin_client.post(f"{path}{row.pk}/change/", {"ip_address": "192.0.2.9", "count": 9}).status_code == 403
    row.refresh_from_db()
    assert row.ip_address is None


@pytest.mark.parametrize("path", [SESSIONS, EVENTS])
def test_staff_without_a_permission_sees_nothing(ann: Any, clerk: Clerk, path: str) -> None:
    sessions.start(ann)
    assert clerk().get(path).status_code == 403


# Revoking


def test_only_selected_sessions_are_revoked(ann: Any, bob: Any, browser: Browser, app: App, clerk: Clerk) -> None:
    first, second = live()
    other = sessions.start(bob)
    page = act(clerk("view_session", "change_session"), "revoke_selected", first, second)
    assert messages_of(page) == ["2 sessions were revoked."]
    assert live() == [other]
    assert browser.refresh().json()["code"] == app.refresh().json()["code"] == "token_revoked"
    assert Session.objects.filter(revoked_reason=Reason.STAFF).count() == 2


@pytest.mark.parametrize("action", ["revoke_selected", "revoke_all_of_users", "delete_selected", "delete"])
def test_only_a_superuser_ends_the_session_of_a_superuser(
    ann: Any, clerk: Clerk, admin_client: Http, action: str
) -> None:
    session = sessions.start(ann)
    type(ann)._default_manager.filter(pk=ann.pk).update(is_superuser=True)
    for http, left in ((clerk("view_session", "change_session", "delete_session"), [session]), (admin_client, [])):
        if action == "delete":
            http.post(f"{SESSIONS}{session.pk}/delete/", {"post": "yes"})
        else:
            act(http, action, session, post="yes")
        assert live() == left


@pytest.mark.parametrize("action", ["revoke_selected", "revoke_all_of_users", "delete_selected", "delete"])
def test_staff_cannot_end_sessions_of_users_with_more_rights(ann: Any, bob: Any, clerk: Clerk, action: str) -> None:
    theirs, his = sessions.start(ann), sessions.start(bob)
    ann.user_permissions.set(Permission.objects.filter(codename="add_logentry"))
    http = clerk("view_session", "change_session", "delete_session")
    for session in (theirs, his):
        if action == "delete":
            http.post(f"{SESSIONS}{session.pk}/delete/", {"post": "yes"})
        else:
            act(http, action, session, post="yes")
    assert live() == [theirs]


def test_revocation_is_logged_for_its_owner_and_for_the_staff(ann: Any, clerk: Clerk) -> None:
    session = sessions.start(ann)
    assert messages_of(act(clerk("change_session"), "revoke_selected", session)) == ["1 session was revoked."]
    event = SecurityEvent.objects.get(kind="session_revoked")
    assert (event.user, event.session) == (ann, session.pk)
    assert (event.ip_address, event.user_agent, event.reason) == ("198.51.100.7", "the clerk's", Reason.STAFF)
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.object_id, entry.action_flag) == ("clerk", str(session.pk), CHANGE)
    assert entry.get_change_message() == "Revoked."


def test_ended_session_is_not_revoked_again(every_status: dict[str, Session], admin_client: Http) -> None:
    expired, revoked = every_status["expired"], every_status["ended: signed out"]
    page = act(admin_client, "revoke_selected", expired, revoked)
    assert messages_of(page) == ["There were no active sessions to revoke."]
    assert Session.objects.get(pk=expired.pk).revoked_at is None
    assert Session.objects.get(pk=revoked.pk).revoked_reason == Reason.LOGOUT
    assert not LogEntry.objects.exists()


def test_all_sessions_of_the_chosen_users_are_revoked(
    ann: Any, bob: Any, django_user_model: Any, admin_client: Http
) -> None:
    chosen = [sessions.start(user) for user in (ann, ann, bob, ann)][1:3]
    other = sessions.start(django_user_model._default_manager.create_user("carl"))
    assert messages_of(act(admin_client, "revoke_all_of_users", *chosen)) == ["4 sessions were revoked."]
    assert live() == [other]


@pytest.mark.parametrize("action", ["revoke_selected", "revoke_all_of_users", "delete_selected"])
def test_list_that_shrinks_meanwhile_is_processed_to_the_end(
    ann: Any, bob: Any, admin_client: Http, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(admin, "BATCH_SIZE", 1)
    monkeypatch.setattr(admin.SessionAdmin, "list_per_page", 2)
    begun = [sessions.start(user) for user in (ann, bob, ann, bob, ann)]
    act(admin_client, action, *begun[:2], query="?status=active&p=1", select_across="1", post="yes")
    assert not live()
    assert Session.objects.count() == (0 if action == "delete_selected" else 5)
    assert SecurityEvent.objects.filter(kind="session_revoked").count() == 5


@pytest.mark.parametrize("action", ["revoke_selected", "revoke_all_of_users", "delete_selected"])
def test_action_needs_its_permission(ann: Any, clerk: Clerk, action: str) -> None:
    session = sessions.start(ann)
    http = clerk("view_session", "view_securityevent")
    assert action not in http.get(SESSIONS).content.decode()
    act(http, action, session, post="yes")
    assert live() == [session]


# Deleting


def test_deletion_ends_the_session_and_is_logged(ann: Any, browser: Browser, clerk: Clerk) -> None:
    session = Session.objects.get()
    http = clerk("view_session", "delete_session")
    assert http.get(f"{SESSIONS}{session.pk}/delete/").status_code == 200
    assert http.post(f"{SESSIONS}{session.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Session.objects.exists()
    assert browser.post("/auth/introspect", access=browser.access).json()["code"] == "token_revoked"
    assert browser.refresh().json()["code"] == "token_revoked"
    assert SecurityEvent.objects.get(kind="session_revoked").session == session.pk
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.action_flag) == (str(session.pk), DELETION)


def test_deletion_of_an_ended_session_is_not_announced(every_status: dict[str, Session], admin_client: Http) -> None:
    ended = [every_status["expired"], every_status["ended: signed out"]]
    before = SecurityEvent.objects.count()
    page = act(admin_client, "delete_selected", *ended, post="yes")
    assert messages_of(page) == ["Successfully deleted 2 sessions."]
    assert SecurityEvent.objects.count() == before
    assert Session.objects.count() == 3


def test_deletion_needs_its_permission(ann: Any, clerk: Clerk) -> None:
    session = sessions.start(ann)
    http = clerk("view_session", "change_session")
    assert http.post(f"{SESSIONS}{session.pk}/delete/", {"post": "yes"}).status_code == 403
    assert live() == [session]


# The security log


def test_log_is_listed_newest_first_in_readable_words(ann: Any, browser: Browser, admin_client: Http) -> None:
    browser.logout()
    browser.login(password="wrong")
    page = admin_client.get(EVENTS)
    assert sorted(column(page, "event")) == ["failed sign-in", "signed in", "signed out"]
    assert column(page, "user") == ["ann"] * 3
    assert column(page, "device") == ["Firefox on Linux"] * 3


def test_kind_of_another_app_is_shown_as_it_is(ann: Any, admin_client: Http) -> None:
    event = SecurityEvent.objects.create(user=ann, kind="seal_broken")
    assert column(admin_client.get(EVENTS), "event") == ["seal_broken"]
    assert "seal_broken" in admin_client.get(f"{EVENTS}{event.pk}/change/").content.decode()


def test_log_is_filtered_by_kind(ann: Any, browser: Browser, admin_client: Http) -> None:
    browser.logout()
    assert column(admin_client.get(f"{EVENTS}?kind=logout"), "event") == ["signed out"]


@pytest.mark.parametrize("term", ["ann", "ANN@example", "192.0.2.1", "{0}"])
def test_log_is_searched_by_user_address_and_session(ann: Any, bob: Any, admin_client: Http, term: str) -> None:
    session = sessions.start(ann, FIREFOX)
    sessions.start(bob, Client("203.0.113.9"))
    page = admin_client.get(EVENTS, {"q": term.format(session.pk)})
    assert column(page, "user") == ["ann"]


def test_not_even_a_superuser_deletes_the_log(ann: Any, admin_client: Http) -> None:
    sessions.start(ann)
    event = SecurityEvent.objects.get()
    assert "delete_selected" not in admin_client.get(EVENTS).content.decode()
    assert admin_client.post(f"{EVENTS}{event.pk}/delete/", {"post": "yes"}).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"}
    admin_client.post(EVENTS, data)
    assert SecurityEvent.objects.get() == event


def test_user_is_deleted_with_sessions_and_log(ann: Any, browser: Browser, admin_client: Http) -> None:
    options = get_user_model()._meta
    path = reverse(f"admin:{options.app_label}_{options.model_name}_delete", args=[ann.pk])
    assert admin_client.post(path, {"post": "yes"}).status_code == 302
    assert (Session.objects.count(), SecurityEvent.objects.count()) == (0, 0)
    assert browser.refresh().json()["code"] == "token_revoked"
