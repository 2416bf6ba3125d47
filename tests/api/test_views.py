"""The protected resources."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.mail import EmailMessage
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from accounts.mail import outbox
from accounts.models import Mail, MailKind, User
from tests.accounts.mails import link_in
from tests.api.people import Person, register, sign_in
from tests.clients import CHALLENGES, PASSWORD, claims_of
from tests.racing import in_parallel, just_before
from tokens.domain import sessions
from tokens.models import Reason, SecurityEvent, Session

pytestmark = pytest.mark.django_db

NO_SESSION = "01890a5d-ac96-774b-bcce-b302099a8057"
LIVE = {"revoked_at": None, "revoked_reason": ""}
EVERYTHING = [
    ("get", "/api/me/"),
    ("patch", "/api/me/"),
    ("get", "/api/sessions/"),
    ("patch", f"/api/sessions/{NO_SESSION}/"),
    ("delete", f"/api/sessions/{NO_SESSION}/"),
    ("post", "/api/sessions/revoke-others/"),
    ("get", "/api/users/"),
    ("get", "/api/users/987654321/"),
    ("patch", "/api/users/987654321/"),
    ("post", "/api/users/987654321/revoke-sessions/"),
    ("post", "/api/users/987654321/send-password-reset/"),
    ("get", "/api/security-events/"),
]
FOR_STAFF = [(method, path) for method, path in EVERYTHING if "users" in path]


def wire(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def events_of(person: Person) -> list[str]:
    return list(SecurityEvent.objects.filter(user=person.user).order_by("pk").values_list("kind", flat=True))


# Who may call


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_access_token_is_required_everywhere(db: None, method: str, path: str) -> None:
    response = getattr(APIClient(), method)(path)
    assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert response["WWW-Authenticate"] == CHALLENGES


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_refresh_token_is_refused_everywhere(ann: Person, method: str, path: str) -> None:
    ann.access = ann.cookie
    response = ann.call(method, path)
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")
    assert response["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_access_token_is_refused_after_signing_out(ann: Person, method: str, path: str) -> None:
    ann.logout()
    response = ann.call(method, path)
    assert (response.status_code, response.json()["code"]) == (401, "token_revoked")


@pytest.mark.parametrize(("method", "path"), FOR_STAFF)
def test_users_are_for_staff(ann: Person, method: str, path: str) -> None:
    response = ann.call(method, path)
    assert (response.status_code, response.json().keys()) == (403, {"detail", "code"})
    assert response.json()["code"] == "permission_denied"


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_every_path_answers_without_its_last_slash(staff: Person, method: str, path: str) -> None:
    responses = [staff.call(method, address) for address in (path, path.removesuffix("/"))]
    assert responses[0].status_code == responses[1].status_code
    assert responses[0].status_code in (200, 204, 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("put", "/api/me/"),
        ("delete", "/api/me/"),
        ("post", "/api/sessions/"),
        ("put", f"/api/sessions/{NO_SESSION}/"),
        ("put", "/api/users/987654321/"),
        ("delete", "/api/users/987654321/"),
        ("post", "/api/users/"),
        ("delete", "/api/security-events/"),
    ],
)
def test_other_methods_are_not_allowed(superuser: Person, method: str, path: str) -> None:
    response = superuser.call(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


# Me


def test_me_is_the_account_of_the_caller(ann: Person, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    ann.user.groups.set([Group.objects.create(name="writers"), Group.objects.create(name="readers")])
    with django_assert_num_queries(1):  # the guard, which reads the groups too
        response = ann.call("get", "/api/me/")
    assert response.status_code == 200
    assert response.json() == {
        "id": ann.user.pk,
        "username": "ann",
        "email": "ann@example.com",
        "emailVerified": False,
        "isStaff": False,
        "groups": ["readers", "writers"],
        "dateJoined": wire(ann.user.date_joined),
    }


def test_username_can_change(ann: Person) -> None:
    response = ann.call("patch", "/api/me/", {"username": "Anna"})
    assert (response.status_code, response.json()["username"]) == (200, "Anna")
    assert ann.call("get", "/api/me/").json()["username"] == "Anna"
    assert sign_in("Anna").access
    assert ann.refresh().status_code == 200


@pytest.mark.parametrize("username", ["ben", "BEN", "a@b", "", "a b", "x" * 151, None, ["ann"], "ann\x00", "\ud800"])
def test_username_changes_by_the_rules_of_registration(ann: Person, ben: Person, username: Any) -> None:
    response = ann.call("patch", "/api/me/", {"username": username})
    assert (response.status_code, response.json().keys()) == (400, {"username"})
    assert ann.user.username == "ann"


def test_address_changes_with_the_password_and_the_old_one_gets_a_notice(ann: Person) -> None:
    User.objects.update(email_verified=True)
    Mail.objects.all().delete()
    response = ann.call("patch", "/api/me/", {"email": "ann@example.org", "currentPassword": PASSWORD})
    assert response.status_code == 200
    assert response.json()["email"] == "ann@example.org"
    assert response.json()["emailVerified"] is False
    assert "currentPassword" not in response.json()
    mails = set(Mail.objects.values_list("kind", "address"))
    assert mails == {
        ("email_changed", "ann@example.com"),
        (MailKind.VERIFY_EMAIL, "ann@example.org"),
    }
    assert events_of(ann)[-1] == "email_changed"


@pytest.mark.parametrize("nothing", [None, ""])
def test_address_can_be_removed(ann: Person, nothing: str | None) -> None:
    response = ann.call("patch", "/api/me/", {"email": nothing, "currentPassword": PASSWORD})
    assert (response.status_code, response.json()["email"]) == (200, "")


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({}, {"currentPassword": ["This field is required."]}),
        ({"currentPassword": "wrong"}, {"currentPassword": ["That password is wrong."]}),
        ({"currentPassword": ""}, {"currentPassword": ["This field may not be blank."]}),
        ({"currentPassword": None}, {"currentPassword": ["This field may not be null."]}),
        ({"currentPassword": ["x"]}, {"currentPassword": ["Not a valid string."]}),
    ],
)
def test_address_change_needs_the_password(ann: Person, given: dict[str, Any], errors: dict[str, Any]) -> None:
    before = list(Mail.objects.values())
    response = ann.call("patch", "/api/me/", {"email": "thief@example.org", "username": "thief", **given})
    assert (response.status_code, response.json()) == (400, errors)
    assert (ann.user.username, ann.user.email) == ("ann", "ann@example.com")
    assert list(Mail.objects.values()) == before


@pytest.mark.parametrize(
    "email", ["ben@example.com", "BEN@EXAMPLE.COM", "nonsense", "a@b\x00.org", "x" * 500 + "@a.org"]
)
def test_address_must_be_valid_and_free(ann: Person, ben: Person, email: str) -> None:
    body = {"username": "anna", "email": email, "currentPassword": PASSWORD}
    response = ann.call("patch", "/api/me/", body)
    assert (response.status_code, response.json().keys()) == (400, {"email"})
    assert (ann.user.username, ann.user.email) == ("ann", "ann@example.com")


def test_mails_are_limited_when_an_address_changes_back_and_forth(
    ann: Person, settings: Settings, mailoutbox: list[EmailMessage]
) -> None:
    settings.TOKENS_LIMITS = {"mail": (2, 600.0)}
    for email in ("bob@example.com", "", "BOB@example.com", "", "bob@example.com"):
        assert ann.call("patch", "/api/me/", {"email": email, "currentPassword": PASSWORD}).status_code == 200
    assert ann.user.email == "bob@example.com"
    outbox.deliver()
    sent = [message.subject for message in mailoutbox if message.to[0].lower() == "bob@example.com"]
    assert sent == ["Confirm your email address"] * 2


def test_unchanged_address_needs_no_password(ann: Person) -> None:
    before = list(Mail.objects.values())
    response = ann.call("patch", "/api/me/", {**ann.call("get", "/api/me/").json(), "username": "anna"})
    assert (response.status_code, response.json()["username"]) == (200, "anna")
    assert list(Mail.objects.values()) == before


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"nonsense": 1},
        {"id": 7, "isStaff": True, "isSuperuser": True, "emailVerified": True, "groups": ["admins"]},
        {"dateJoined": "2000-01-01T00:00:00Z", "is_staff": True, "password": "x"},
    ],
)
def test_read_only_fields_are_ignored(ann: Person, body: dict[str, Any]) -> None:
    before = User.objects.values().get()
    assert ann.call("patch", "/api/me/", body).json() == ann.call("get", "/api/me/").json()
    assert User.objects.values().get() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("body", [{"username": "carl"}, {"email": "carl@example.com", "currentPassword": PASSWORD}])
def test_simultaneous_requests_for_one_name_give_it_to_one_user(body: dict[str, str]) -> None:
    people = [register("ann"), register("ben")]
    responses = in_parallel(*[lambda who=who: who.call("patch", "/api/me/", body) for who in people])
    assert sorted(response.status_code for response in responses) == [200, 400]
    assert User.objects.filter(**{field: body[field] for field in body.keys() - {"currentPassword"}}).count() == 1


# Sessions


def test_sessions_are_the_callers_active_ones_with_the_current_one_first(
    ann: Person,
    ben: Person,
    time_machine: TimeMachineFixture,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    phone = sign_in("ann", user_agent="Mozilla/5.0 (Android 14; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0")
    sign_in("ann").logout()
    time_machine.move_to(timezone.now() + timedelta(minutes=1), tick=False)
    assert ann.refresh(REMOTE_ADDR="192.0.2.7").status_code == 200
    time_machine.shift(60)
    assert phone.refresh(REMOTE_ADDR="192.0.2.8").status_code == 200
    current, used_last = (Session.objects.get(pk=claims_of(who.access)["sid"]) for who in (ann, phone))
    time_machine.shift(60)
    now = timezone.now()
    ann.call("get", "/api/me/")  # the first use of a token after a rotation costs a statement more
    with django_assert_num_queries(2):  # the guard, the list
        response = ann.call("get", "/api/sessions/")
    assert response.status_code == 200
    assert response.json() == {
        "next": None,
        "previous": None,
        "results": [
            {
                "id": str(current.pk),
                "current": True,
                "createdAt": wire(current.created_at),
                "lastUsedAt": wire(now),
                "expiresAt": wire((now + timedelta(days=7)).replace(microsecond=0)),
                "ipAddress": "127.0.0.1",
                "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "device": "Firefox on Linux",
                "bound": False,
            },
            {
                "id": str(used_last.pk),
                "current": False,
                "createdAt": wire(used_last.created_at),
                "lastUsedAt": wire(used_last.rotated_at),
                "expiresAt": wire(used_last.expires_at),
                "ipAddress": "192.0.2.8",
                "userAgent": "Mozilla/5.0 (Android 14; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0",
                "device": "Firefox Mobile on Android",
                "bound": False,
            },
        ],
    }


def test_other_sessions_are_listed_by_last_use(ann: Person, time_machine: TimeMachineFixture) -> None:
    others = [sign_in("ann") for _ in range(3)]
    for other in (others[1], others[2], others[0]):
        time_machine.move_to(timezone.now() + timedelta(minutes=1))
        other.refresh()
    path, listed = "/api/sessions/?pageSize=1", []
    while path:
        page = ann.call("get", path).json()
        listed += [session["id"] for session in page["results"]]
        path = page["next"]
    assert listed == [claims_of(who.access)["sid"] for who in (ann, others[0], others[2], others[1])]


def test_ended_sessions_are_not_listed(ann: Person, settings: Settings, time_machine: TimeMachineFixture) -> None:
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "REFRESH_TOKEN_LIFETIME": timedelta(seconds=60)}
    sign_in("ann")
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "REFRESH_TOKEN_LIFETIME": timedelta(days=7)}
    assert len(ann.call("get", "/api/sessions/").json()["results"]) == 2
    time_machine.move_to(timezone.now() + timedelta(seconds=61))
    assert [found["current"] for found in ann.call("get", "/api/sessions/").json()["results"]] == [True]


def test_session_can_be_renamed(ann: Person) -> None:
    there = sign_in("ann")
    path = f"/api/sessions/{claims_of(there.access)['sid']}/"
    response = ann.call("patch", path, {"device": " Ada's phone  📱 "})
    assert response.status_code == 200
    listed = {session["id"]: session for session in ann.call("get", "/api/sessions/").json()["results"]}
    assert response.json() == listed[claims_of(there.access)["sid"]]
    assert response.json()["device"] == "Ada's phone  📱"
    assert listed[claims_of(ann.access)["sid"]]["device"] == "Firefox on Linux"


def test_session_keeps_its_name_if_none_is_sent(ann: Person) -> None:
    path = f"/api/sessions/{claims_of(ann.access)['sid']}/"
    ann.call("patch", path, {"device": "desk"})
    response = ann.call("patch", path, {"userAgent": "other", "current": False, "expiresAt": None})
    assert (response.status_code, response.json()["device"]) == (200, "desk")
    assert (response.json()["current"], "Firefox" in response.json()["userAgent"]) == (True, True)


@pytest.mark.parametrize(
    "device", ["", "  ", "a\nb", "\x00", "\u202eevil", "\ud800", "x" * 65, None, ["desk"], {}, True]
)
def test_session_name_must_be_printable(ann: Person, device: Any) -> None:
    response = ann.call("patch", f"/api/sessions/{claims_of(ann.access)['sid']}/", {"device": device})
    assert (response.status_code, response.json().keys()) == (400, {"device"})
    assert Session.objects.get().device_name == ""


def test_session_name_may_have_64_characters(ann: Person) -> None:
    response = ann.call("patch", f"/api/sessions/{claims_of(ann.access)['sid']}/", {"device": "é" * 64})
    assert (response.status_code, response.json()["device"]) == (200, "é" * 64)


def test_another_users_session_cannot_be_renamed(ann: Person, ben: Person) -> None:
    for identifier in (claims_of(ben.access)["sid"], NO_SESSION, "x"):
        response = ann.call("patch", f"/api/sessions/{identifier}/", {"device": "mine"})
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert set(Session.objects.values_list("device_name", flat=True)) == {""}


def test_session_ended_at_that_moment_is_not_renamed(ann: Person) -> None:
    session = sessions.start(ann.user)
    with just_before('UPDATE "latchkey_session"', lambda: sessions.revoke(session, Reason.LOGOUT)):
        response = ann.call("patch", f"/api/sessions/{session.pk}/", {"device": "desk"})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_sessions_of_a_former_password_are_not_listed(ann: Person) -> None:
    sign_in("ann")
    assert ann.change_password().status_code == 200
    assert [found["current"] for found in ann.call("get", "/api/sessions/").json()["results"]] == [True]


def test_deleted_session_has_ended(ann: Person, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    other = sign_in("ann")
    path = f"/api/sessions/{claims_of(other.access)['sid']}/"
    # The guard, the session, SAVEPOINT, the update, the event, the end; PostgreSQL takes the event with the update.
    with django_assert_num_queries(5 if connection.vendor == "postgresql" else 6):
        response = ann.call("delete", path)
    assert (response.status_code, response.content) == (204, b"")
    assert other.refresh().json()["code"] == "token_revoked"
    assert other.call("get", "/api/me/").json()["code"] == "token_revoked"
    assert ann.call("get", "/api/me/").status_code == 200
    ended = Session.objects.get(pk=claims_of(other.access)["sid"])
    assert (ended.revoked_reason, ended.revoked_by) == (Reason.REVOKED, "ann")
    assert events_of(ann)[-1] == "session_revoked"
    assert ann.call("delete", path).status_code == 404


def test_own_session_can_be_deleted(ann: Person) -> None:
    assert ann.call("delete", f"/api/sessions/{claims_of(ann.access)['sid']}/").status_code == 204
    assert ann.call("get", "/api/me/").json()["code"] == "token_revoked"
    assert ann.refresh().json()["code"] == "token_revoked"


@pytest.mark.parametrize("identifier", ["ben's", NO_SESSION, "1", "nonsense", "%00", "%ED%A0%80", "x" * 5000])
def test_another_users_session_is_not_found(ann: Person, ben: Person, identifier: str) -> None:
    if identifier == "ben's":
        identifier = claims_of(ben.access)["sid"]
    response = ann.call("delete", f"/api/sessions/{identifier}/")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert not Session.objects.exclude(**LIVE).exists()


@pytest.mark.django_db(transaction=True)
def test_session_ended_meanwhile_is_not_found(ann: Person) -> None:
    other = sign_in("ann")
    session = Session.objects.get(pk=claims_of(other.access)["sid"])
    with just_before('UPDATE "latchkey_session"', lambda: sessions.revoke(session, Reason.LOGOUT)):
        response = ann.call("delete", f"/api/sessions/{session.pk}/")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert Session.objects.get(pk=session.pk).revoked_reason == Reason.LOGOUT


def test_every_other_session_is_revoked(ann: Person, ben: Person) -> None:
    others = [sign_in("ann"), sign_in("ann")]
    response = ann.call("post", "/api/sessions/revoke-others/")
    assert (response.status_code, response.json()) == (200, {"revoked": 2})
    assert [other.refresh().json()["code"] for other in others] == ["token_revoked", "token_revoked"]
    assert ann.refresh().status_code == ben.refresh().status_code == 200
    assert ann.call("post", "/api/sessions/revoke-others/").json() == {"revoked": 0}


# Users


def test_user_has_the_fields_that_staff_see(
    ann: Person, staff: Person, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ann.user.groups.add(Group.objects.create(name="writers"))
    path = ann.path
    with django_assert_num_queries(3):  # the guard, the user, the groups
        response = staff.call("get", path)
    assert response.status_code == 200
    assert response.json() == {
        "id": ann.user.pk,
        "username": "ann",
        "email": "ann@example.com",
        "emailVerified": False,
        "isActive": True,
        "isStaff": False,
        "isSuperuser": False,
        "groups": ["writers"],
        "dateJoined": wire(ann.user.date_joined),
        "lastLogin": wire(SecurityEvent.objects.get(user=ann.user, kind="login").created_at),
    }


def test_users_cost_three_statements_however_many(
    ann: Person, ben: Person, staff: Person, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for group in ("readers", "writers"):
        Group.objects.create(name=group).user_set.set(User.objects.all())
    with django_assert_num_queries(3):  # the guard, the users, their groups
        response = staff.call("get", "/api/users/")
    assert [user["username"] for user in response.json()["results"]] == ["ann", "ben", "sue"]
    assert all(user["groups"] == ["readers", "writers"] for user in response.json()["results"])


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", ["Éva", "ann", "sue"]),
        ("AN", ["ann"]),
        ("éV", ["Éva"]),
        ("e\u0301v", ["Éva"]),
        ("EXAMPLE.com", ["Éva", "ann", "sue"]),
        ("ann example", ["ann"]),
        ("ann, sue", []),
        ("%", []),
        ("n_n", []),
    ],
)
def test_users_are_searched_by_name_and_address(staff: Person, search: str, found: list[str]) -> None:
    register("ann")
    register("Éva", email="eva@example.com")
    response = staff.call("get", "/api/users/", QUERY_STRING=urlencode({"search": search}))
    assert sorted(user["username"] for user in response.json()["results"]) == sorted(found)


@pytest.mark.parametrize("search", ["a\x00b", "x" * 321, "a " * 161])
def test_too_long_search_is_a_field_error(staff: Person, search: str) -> None:
    response = staff.call("get", "/api/users/", QUERY_STRING=urlencode({"search": search}))
    assert (response.status_code, response.json().keys()) == (400, {"search"})


def test_search_may_be_as_long_as_an_address(staff: Person) -> None:
    for search in ("x" * 320, "a " * 160, '"' * 320, "\ufdfa" * 320):
        assert staff.call("get", "/api/users/", QUERY_STRING=urlencode({"search": search})).status_code == 200


@pytest.mark.parametrize(
    ("ordering", "expected"),
    [
        ("", ["ann", "Ben", "sue"]),
        ("username", ["ann", "Ben", "sue"]),
        ("-username", ["sue", "Ben", "ann"]),
        ("email", ["Ben", "sue", "ann"]),
        ("dateJoined", ["sue", "Ben", "ann"]),
        ("-dateJoined,username", ["ann", "Ben", "sue"]),
    ],
)
def test_users_are_ordered(staff: Person, ordering: str, expected: list[str]) -> None:
    register("Ben", email="")
    register("ann", email="zoe@example.com")
    response = staff.call("get", "/api/users/", QUERY_STRING=urlencode({"ordering": ordering}))
    assert [user["username"] for user in response.json()["results"]] == expected


@pytest.mark.parametrize(
    "ordering", ["password", "date_joined", "--username", "username,x", ",", "\x00", "username__x"]
)
def test_unknown_ordering_is_a_field_error(staff: Person, ordering: str) -> None:
    response = staff.call("get", "/api/users/", QUERY_STRING=urlencode({"ordering": ordering}))
    assert (response.status_code, response.json()) == (
        400,
        {"ordering": ["Choose one of: username, email, dateJoined."]},
    )


def test_deactivation_ends_sessions_and_reactivation_restores_none(ann: Person, staff: Person) -> None:
    cookie = ann.cookie
    response = staff.call("patch", ann.path, {"isActive": False})
    assert (response.status_code, response.json()["isActive"]) == (200, False)
    assert ann.refresh().json()["code"] == "token_revoked"
    assert ann.call("get", "/api/me/").json()["code"] == "token_revoked"
    assert ann.login().json()["code"] == "invalid_credentials"
    ended = Session.objects.get(user=ann.user)
    assert (ended.revoked_reason, ended.revoked_by) == (Reason.DEACTIVATED, staff.user.username)

    response = staff.call("patch", ann.path, {"isActive": True})
    assert (response.status_code, response.json()["isActive"]) == (200, True)
    assert ann.refresh(cookie).json()["code"] == "token_revoked"
    assert ann.login().status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"isStaff": True, "isSuperuser": True, "username": "x", "email": "x@example.com", "groups": ["x"]},
        {"is_active": False, "password": "x", "emailVerified": True},
    ],
)
def test_other_fields_of_a_user_do_not_change(ann: Person, staff: Person, body: dict[str, Any]) -> None:
    before = User.objects.filter(username="ann").values().get()
    assert staff.call("patch", ann.path, body).status_code == 200
    assert User.objects.filter(username="ann").values().get() == before


@pytest.mark.parametrize("value", [None, "maybe", 2, [], {}, [True], "\x00", "\ud800", 10**400])
def test_is_active_must_be_a_boolean(ann: Person, staff: Person, value: Any) -> None:
    response = staff.call("patch", ann.path, {"isActive": value})
    assert (response.status_code, response.json().keys()) == (400, {"isActive"})
    assert ann.user.is_active


@pytest.mark.parametrize("is_active", [True, False])
def test_only_superusers_change_a_superuser(staff: Person, superuser: Person, is_active: bool) -> None:
    response = staff.call("patch", superuser.path, {"isActive": is_active})
    assert (response.status_code, response.json()) == (
        403,
        {"detail": "This user has permissions that you don't have.", "code": "permission_denied"},
    )
    for action in ("revoke-sessions", "send-password-reset"):
        assert staff.call("post", f"{superuser.path}{action}/").status_code == 403
    assert not Mail.objects.exists()
    assert staff.call("get", superuser.path).status_code == 200
    assert superuser.user.is_active
    assert superuser.refresh().status_code == 200


@pytest.mark.parametrize("is_active", [True, False])
def test_staff_cannot_act_on_users_with_more_rights(staff: Person, ben: Person, is_active: bool) -> None:
    User.objects.filter(pk=ben.user.pk).update(is_staff=True, is_active=is_active)
    ben.user.user_permissions.set(Permission.objects.filter(codename="change_session"))
    assert staff.call("patch", ben.path, {"isActive": not is_active}).status_code == 403
    for action in ("revoke-sessions", "send-password-reset"):
        assert staff.call("post", f"{ben.path}{action}/").status_code == 403
    assert not Mail.objects.filter(kind=MailKind.SET_PASSWORD).exists()
    assert ben.user.is_active == is_active
    assert not Session.objects.exclude(**LIVE).exists()
    staff.user.user_permissions.set(Permission.objects.filter(codename="change_session"))
    assert staff.call("patch", ben.path, {"isActive": not is_active}).status_code == 200


def test_superuser_changes_another(superuser: Person) -> None:
    User.objects.create_superuser("toor", password=PASSWORD)
    other = sign_in("toor")
    assert superuser.call("patch", other.path, {"isActive": False}).status_code == 200
    assert not other.user.is_active


@pytest.mark.parametrize("who", ["staff", "superuser"])
def test_users_cannot_deactivate_themselves(who: str, request: pytest.FixtureRequest) -> None:
    person: Person = request.getfixturevalue(who)
    response = person.call("patch", person.path, {"isActive": False})
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")
    assert person.user.is_active
    assert person.call("patch", person.path, {"isActive": True}).status_code == 200
    assert person.refresh().status_code == 200


def test_staff_ends_the_sessions_of_a_user(ann: Person, ben: Person, staff: Person) -> None:
    other = sign_in("ann")
    response = staff.call("post", f"{ann.path}revoke-sessions/")
    assert (response.status_code, response.json()) == (200, {"revoked": 2})
    assert [who.refresh().json()["code"] for who in (ann, other)] == ["token_revoked", "token_revoked"]
    ended = Session.objects.filter(user=ann.user).values_list("revoked_reason", "revoked_by")
    assert set(ended) == {(Reason.STAFF, staff.user.username)}
    assert ben.refresh().status_code == staff.refresh().status_code == 200
    assert staff.call("post", f"{ann.path}revoke-sessions/").json() == {"revoked": 0}


def test_staff_sends_a_link_with_which_the_user_chooses_a_password(
    ann: Person, staff: Person, mailoutbox: list[EmailMessage]
) -> None:
    """Sue has a link sent to Ann, who chooses a password that Sue never sees."""
    outbox.deliver()
    mailoutbox.clear()
    response = staff.call("post", f"{ann.path}send-password-reset/")
    assert (response.status_code, response.content) == (202, b"")
    assert ann.refresh().status_code == 200
    log = ann.call("get", "/api/security-events/").json()["results"]
    assert (log[0]["kind"], log[0]["session"]) == ("password_reset_sent", None)
    outbox.deliver()
    (mail,) = mailoutbox
    assert (mail.to, mail.subject) == (["ann@example.com"], "Choose a password")
    body = {**link_in(mail), "newPassword": "another horse battery"}
    assert Person("ann").post("/auth/password/reset/confirm", body).status_code == 204
    assert ann.refresh().json()["code"] == "token_revoked"
    assert ann.login("ann", "another horse battery").status_code == 200
    assert staff.refresh().status_code == 200


@pytest.mark.parametrize("change", [{"email": "", "email_key": None}, {"is_active": False}], ids=str)
def test_no_link_is_sent_without_an_address(ann: Person, staff: Person, change: dict[str, Any]) -> None:
    User.objects.filter(pk=ann.user.pk).update(**change)
    Mail.objects.all().delete()
    events = events_of(ann)
    response = staff.call("post", f"{ann.path}send-password-reset/")
    assert (response.status_code, response.json()) == (
        400,
        {"detail": "The account has no email address or is inactive.", "code": "no_reset_possible"},
    )
    assert (Mail.objects.count(), events_of(ann)) == (0, events)


def test_user_deleted_at_that_moment_gets_no_link(ann: Person, staff: Person) -> None:
    path = f"{ann.path}send-password-reset/"
    with just_before("SAVEPOINT", lambda: User.objects.filter(username="ann").delete()):
        response = staff.call("post", path)
    assert (response.status_code, response.json()["code"]) == (400, "no_reset_possible")
    assert not Mail.objects.filter(kind=MailKind.SET_PASSWORD).exists()


def test_links_count_towards_the_limit_of_the_address(ann: Person, staff: Person, settings: Settings) -> None:
    settings.TOKENS_LIMITS = {"mail": (1, 600.0)}
    ask_for_reset = {"email": "ANN@example.com"}
    assert [ann.post("/auth/password/reset", ask_for_reset).status_code for _ in range(2)] == [202, 429]
    # A stranger's requests don't block links from staff.
    first, second = (staff.call("post", f"{ann.path}send-password-reset/") for _ in range(2))
    assert first.status_code == 202
    assert (second.status_code, second.json()["code"]) == (429, "throttled")
    assert 590 < int(second["Retry-After"]) <= 600
    assert Mail.objects.filter(kind=MailKind.SET_PASSWORD).count() == 1
    assert events_of(ann).count("password_reset_sent") == 1


@pytest.mark.parametrize("identifier", ["987654321", "0", "-1", "nonsense", "1e3", "%00", "9" * 100, "9" * 5000, "²"])
@pytest.mark.parametrize(
    ("method", "tail"), [("get", ""), ("patch", ""), ("post", "revoke-sessions/"), ("post", "send-password-reset/")]
)
def test_missing_user_is_not_found(staff: Person, method: str, tail: str, identifier: str) -> None:
    response = staff.call(method, f"/api/users/{identifier}/{tail}", {} if method == "patch" else None)
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.django_db(transaction=True)
def test_simultaneous_deactivation_and_sign_in_leave_no_session(ann: Person, staff: Person) -> None:
    in_parallel(
        lambda: staff.call("patch", ann.path, {"isActive": False}),
        lambda: sign_in("ann"),
        lambda: sign_in("ann"),
    )
    assert not Session.objects.filter(user=ann.user, **LIVE).exists()


# The security log


def test_log_is_the_callers_own_newest_first(
    ann: Person, ben: Person, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ann.login(password="wrong")
    ann.call("patch", "/api/me/", {"email": "", "currentPassword": PASSWORD})
    with django_assert_num_queries(2):  # the guard, the log
        response = ann.call("get", "/api/security-events/")
    events = response.json()["results"]
    assert (response.status_code, response.json().keys()) == (200, {"next", "previous", "results"})
    assert [event["kind"] for event in events] == ["email_changed", "login_failed", "login", "registered"]
    logged = SecurityEvent.objects.get(user=ann.user, kind="login")
    assert events[2] == {
        "id": str(logged.pk),
        "kind": "login",
        "createdAt": wire(logged.created_at),
        "ipAddress": "127.0.0.1",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "device": "Firefox on Linux",
        "session": claims_of(ann.access)["sid"],
    }
    assert events[0]["session"] is None


def test_log_says_why_a_session_ended_and_that_staff_did_it(ann: Person, staff: Person) -> None:
    assert staff.call("post", f"{ann.path}revoke-sessions/").json() == {"revoked": 1}
    events = sign_in("ann").call("get", "/api/security-events/").json()["results"]
    assert [(event["kind"], event.get("reason")) for event in events] == [
        ("login", None),
        ("session_revoked", "staff"),
        ("login", None),
        ("registered", None),
    ]


def test_only_staff_read_another_users_log(ann: Person, ben: Person, staff: Person) -> None:
    query = {"QUERY_STRING": f"user={ben.user.pk}"}
    own = ben.call("get", "/api/security-events/").json()
    assert staff.call("get", "/api/security-events/", **query).json() == own
    assert ben.call("get", "/api/security-events/", **query).json() == own
    response = ann.call("get", "/api/security-events/", **query)
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")
    assert staff.call("get", "/api/security-events/", QUERY_STRING="user=987654321").json()["results"] == []


@pytest.mark.parametrize(
    "user", ["nonsense", "0", "-1", "1.5", "1e3", "\x00", "1\x00", "²", "9" * 19, "9" * 100, "9" * 5000, "[1]", "ann"]
)
@pytest.mark.parametrize("who", ["ann", "staff"])
def test_malformed_user_id_is_a_field_error(who: str, user: str, request: pytest.FixtureRequest) -> None:
    person: Person = request.getfixturevalue(who)
    response = person.call("get", "/api/security-events/", QUERY_STRING=urlencode({"user": user}))
    assert (response.status_code, response.json().keys()) == (400, {"user"})


# In a browser


def test_root_lists_the_endpoints(db: None) -> None:
    response = APIClient().get("/api/")
    assert response.status_code == 200
    assert response.json() == {
        "me": "http://testserver/api/me/",
        "sessions": "http://testserver/api/sessions/",
        "securityEvents": "http://testserver/api/security-events/",
        "users": "http://testserver/api/users/",
        "schema": "http://testserver/api/schema/",
        "docs": "http://testserver/api/docs/",
    }


@pytest.mark.parametrize(
    "path", ["/api/", "/api/me/", "/api/sessions/", "/api/users/", "/api/security-events/", "user"]
)
def test_browser_gets_a_page(superuser: Person, path: str) -> None:
    response = superuser.call("get", superuser.path if path == "user" else path, HTTP_ACCEPT="text/html")
    assert response.status_code == 200
    assert response["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("body", [{"username": "\ud800"}, {"username": "<b>"}, ["x"], "x"])
def test_browser_also_gets_a_page_for_a_bad_request(ann: Person, body: Any) -> None:
    response = ann.call("patch", "/api/me/", body, HTTP_ACCEPT="text/html")
    assert response.status_code == 400
    assert response["Content-Type"] == "text/html; charset=utf-8"


def test_probing_for_names_and_addresses_is_limited(ann: Person, settings: Settings) -> None:
    bob = register("bob")
    settings.TOKENS_LIMITS = {"account": (2, 60.0)}
    assert ann.call("patch", "/api/me/", {"username": "bob"}).status_code == 400
    taken = {"email": "bob@example.com", "currentPassword": PASSWORD}
    assert ann.call("patch", "/api/me/", taken).json() == {"email": ["This address is taken."]}
    assert ann.call("patch", "/api/me/", taken).status_code == 429
    assert bob.call("patch", "/api/me/", {"username": "bobby"}).status_code == 200
