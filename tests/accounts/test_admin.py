import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import User
from tests.clients import PASSWORD, Browser
from tokens import sessions
from tokens.models import Reason, Session

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/user/"


@pytest.fixture
def admin(db: None) -> Client:
    root = User.objects.create_superuser("root", "root@example.com", PASSWORD)
    client = Client()
    client.force_login(root)
    return client


def page_of(user: User, suffix: str = "change") -> str:
    return f"{LIST}{user.pk}/{suffix}/"


def form_of(response: Any) -> dict[str, Any]:
    """Return what the form of the page would send as it stands."""
    form = response.context["adminform"].form
    values = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    management = {
        f"{formset.formset.prefix}-{name}": 0
        for formset in response.context["inline_admin_formsets"]
        for name in ("TOTAL_FORMS", "INITIAL_FORMS")
    }
    return {name: value for name, value in values.items() if value not in (None, False)} | management


def change(admin: Client, user: User, **values: Any) -> Any:
    form = form_of(admin.get(page_of(user))) | values
    return admin.post(page_of(user), {name: value for name, value in form.items() if value is not None})


@pytest.mark.parametrize(
    ("search", "found"),
    [("ÉLODIE", 1), ("e\N{COMBINING ACUTE ACCENT}lo", 1), ("Elodie@EXAMPLE", 1), ("elodie", 1), ("bob", 0)],
)
def test_users_are_found_by_name_or_address_without_regard_to_case(admin: Client, search: str, found: int) -> None:
    User.objects.create_user("Élodie", "elodie@example.com")
    response: Any = admin.get(LIST, {"q": search})
    assert len(response.context["cl"].result_list) == found


def test_list_filters_and_goes_by_date(admin: Client, ann: User) -> None:
    response: Any = admin.get(
        LIST, {"email_verified": "1", "is_staff": "1", "date_joined__year": str(ann.date_joined.year)}
    )
    assert response.status_code == 200
    assert not response.context["cl"].result_list


@pytest.mark.parametrize("username", ["ANN", "a@b"])
def test_admin_adds_no_user_with_a_bad_or_taken_name(admin: Client, ann: User, username: str) -> None:
    form = {"username": username, "email": "", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    response: Any = admin.post(f"{LIST}add/", form)
    assert response.status_code == 200
    assert response.context["adminform"].form.errors.keys() == {"username"}
    assert User.objects.count() == 2


def test_admin_adds_no_user_with_a_taken_address(admin: Client, ann: User) -> None:
    form = {"username": "bob", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    response: Any = admin.post(f"{LIST}add/", form | {"email": "ANN@example.com"})
    assert response.context["adminform"].form.errors == {"email": ["This address is taken."]}


def test_admin_adds_a_user(admin: Client) -> None:
    form = {"username": "Ann", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    assert admin.post(f"{LIST}add/", form | {"email": "ann@example.com"}).status_code == 302
    user = User.objects.get(username_key="ann")
    assert (user.email, user.email_verified, user.check_password(PASSWORD)) == ("ann@example.com", False, True)


def test_address_that_is_changed_in_the_admin_is_no_longer_verified(admin: Client, ann: User) -> None:
    User.objects.filter(pk=ann.pk).update(email_verified=True)
    assert change(admin, ann, email="other@example.com").status_code == 302
    ann.refresh_from_db()
    assert (ann.email, ann.email_key, ann.email_verified) == ("other@example.com", "other@example.com", False)


def test_admin_can_vouch_for_an_address(admin: Client, ann: User) -> None:
    assert change(admin, ann, email="other@example.com", email_verified="on").status_code == 302
    ann.refresh_from_db()
    assert (ann.email, ann.email_verified) == ("other@example.com", True)


def test_other_changes_leave_the_address_verified(admin: Client, ann: User) -> None:
    User.objects.filter(pk=ann.pk).update(email_verified=True)
    assert change(admin, ann, username="Anna").status_code == 302
    assert User.objects.get(username_key="anna").email_verified


def test_deactivation_in_the_admin_ends_the_sessions(admin: Client, ann: User, browser: Browser) -> None:
    assert change(admin, ann, is_active=None).status_code == 302
    assert Session.objects.get().revoked_reason == Reason.DEACTIVATED


def test_password_that_is_set_in_the_admin_ends_the_sessions(admin: Client, ann: User, browser: Browser) -> None:
    form = {"password1": "another horse battery", "password2": "another horse battery", "usable_password": "true"}
    assert admin.post(page_of(ann, "password"), form).status_code == 302
    assert browser.refresh().json()["code"] == "token_revoked"


def test_page_shows_the_users_sessions_to_look_at(admin: Client, ann: User, browser: Browser) -> None:
    ended = sessions.start(ann)
    sessions.revoke(ended, Reason.LOGOUT)
    sessions.start(User.objects.create_user("bob"))
    response: Any = admin.get(page_of(ann))
    (shown,) = response.context["inline_admin_formsets"]
    assert {form.instance for form in shown.formset.forms} == set(Session.objects.filter(user=ann))
    html = response.content.decode()
    assert "Firefox on Linux" in html
    assert "revoked: signed out" in html
    assert len(re.findall(r"/admin/tokens/session/[0-9a-f-]{36}/change/", html)) == 2
    assert not any([shown.has_add_permission, shown.has_change_permission, shown.formset.can_delete])


def test_page_holds_nothing_secret(admin: Client, ann: User, browser: Browser) -> None:
    session = Session.objects.get()
    html = admin.get(page_of(ann)).content.decode()
    *_, salt, digest = ann.password.split("$")
    assert salt[:6] not in html
    assert digest[:6] not in html
    assert session.secret.hex() not in html
    assert session.auth_hash not in html


def test_who_may_only_look_sees_no_more(ann: User, browser: Browser) -> None:
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "view_session"]))
    client = Client()
    client.force_login(viewer)
    html = client.get(page_of(ann)).content.decode()
    assert "argon2" in html
    assert ann.password.split("$")[-1][:6] not in html


def test_admin_deletes_a_user_with_sessions(admin: Client, ann: User, browser: Browser) -> None:
    assert admin.post(page_of(ann, "delete"), {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=ann.pk).exists()
    assert browser.refresh().json()["code"] == "token_revoked"


def test_admin_signs_in_by_address(db: None) -> None:
    User.objects.create_superuser("root", "root@example.com", PASSWORD)
    client = Client()
    response = client.post("/admin/login/", {"username": "ROOT@example.com", "password": PASSWORD, "next": "/admin/"})
    assert response.status_code == 302
    assert client.get(LIST).status_code == 200
