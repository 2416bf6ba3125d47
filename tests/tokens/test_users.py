"""The user of a session, whichever model is saved and whichever manager hides the row."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.db.models.signals import post_save, pre_delete, pre_save
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from tests.clients import PASSWORD, Browser
from tokens import receivers
from tokens.domain import feed, sessions, users
from tokens.models import Reason, Session

pytestmark = pytest.mark.django_db(transaction=True)

APP = "sessions"
"""An installed app to which neither user model belongs."""


@pytest.fixture
def ann(transactional_db: None) -> Any:
    manager: Any = get_user_model()._default_manager
    return manager.create_user("ann", email="ann@example.com", password=PASSWORD)


def define(name: str, base: type[models.Model], **meta: Any) -> Any:
    made = type("Meta", (), {"app_label": APP, **meta})
    return type(name, (base,), {"Meta": made, "__module__": __name__})


@pytest.fixture
def defined() -> Iterator[dict[str, Any]]:
    """The user model, a proxy of it, and a child with its own table. `tokens` listens to them as at the start."""
    user_model: Any = get_user_model()
    proxy, child = define("Member", user_model, proxy=True), define("Employee", user_model)
    receivers.listen([proxy, child])
    with connection.schema_editor() as editor:
        editor.create_model(child)
    yield {"user": user_model, "proxy": proxy, "child": child}
    with connection.schema_editor() as editor:
        editor.delete_model(child)
    forget(proxy, child)


def forget(*defined: Any) -> None:
    """Leave nothing behind. Signals identify a sender by its address in memory, which a later class may get."""
    for model in defined:
        pre_delete.disconnect(receivers.lock_for_deletion, model)
        pre_save.disconnect(receivers.note_changed_password, model)
        for heard in (receivers.revoke_sessions_of_deactivated, receivers.publish_password_change):
            post_save.disconnect(heard, model)
        del apps.all_models[APP][model._meta.model_name]
    apps.clear_cache()


def through(model: Any, user: Any) -> Any:
    """Return the user as a row of that model."""
    if model._meta.proxy or model is type(user):
        return model._default_manager.get(pk=user.pk)
    row = model(pk=user.pk)
    row.__dict__.update({name: value for name, value in user.__dict__.items() if name != "_state"})
    row.save()
    return model._default_manager.get(pk=user.pk)


@pytest.mark.parametrize("name", ["user", "proxy", "child"])
def test_deactivation_through_any_model_of_the_user_ends_the_sessions_for_good(
    ann: Any, defined: dict[str, Any], name: str
) -> None:
    browser = Browser()
    browser.login()
    row = through(defined[name], ann)
    row.is_active = False
    row.save()
    assert Session.objects.get().revoked_reason == Reason.DEACTIVATED
    row.is_active = True
    row.save()
    assert browser.refresh().json()["code"] == "token_revoked"


def test_loading_a_fixture_ends_nothing(ann: Any) -> None:
    sessions.start(ann)
    ann.is_active = False
    ann.save_base(raw=True)
    assert Session.objects.get().revoked_at is None


@pytest.mark.parametrize("name", ["user", "proxy", "child"])
def test_saving_an_active_user_ends_nothing(ann: Any, defined: dict[str, Any], name: str) -> None:
    sessions.start(ann)
    row = through(defined[name], ann)
    row.save()
    row.is_active = False
    row.save(update_fields=["email"])
    assert Session.objects.get().revoked_at is None


@pytest.mark.parametrize("name", ["user", "proxy", "child"])
@pytest.mark.parametrize("end", ["password", "deactivated", "deleted"])
def test_end_through_any_model_of_the_user_is_in_the_feed(
    ann: Any, defined: dict[str, Any], settings: Settings, name: str, end: str
) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"billing": "a secret of its own"}
    session = sessions.start(ann)
    row = through(defined[name], ann)
    match end:
        case "password":
            row.set_password("another password")
            row.save()
        case "deactivated":
            row.is_active = False
            row.save()
        case _:
            row.delete()
    assert {(ended.session, ended.reason) for ended in feed.read().ended} == {(session.pk, end)}


@pytest.mark.parametrize("name", ["user", "proxy", "child"])
def test_deletion_through_any_model_of_the_user_waits_for_the_sessions(
    ann: Any, defined: dict[str, Any], name: str
) -> None:
    browser = Browser()
    browser.login()
    row = through(defined[name], ann)
    with CaptureQueriesContext(connection) as captured:
        row.delete()
    locked = [query["sql"] for query in captured if query["sql"].startswith('SELECT "latchkey_session"')]
    assert locked
    assert not Session.objects.exists()
    assert browser.refresh().json()["code"] == "token_revoked"


def test_user_is_found_by_the_row_of_a_model_that_the_user_model_inherits_from(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"billing": "a secret of its own"}
    person = define("Person", models.Model)
    account = define("Account", person)
    monkeypatch.setattr(users, "get_user_model", lambda: account)
    receivers.listen([person])
    with connection.schema_editor() as editor:
        editor.create_model(person)
        editor.create_model(account)
    try:
        user = account._default_manager.create()
        assert users.saved_through(person._default_manager.get(), "default") == user
        nobody = person._default_manager.create()
        nobody.save()
        assert users.saved_through(nobody, "default") is None
        assert [users.is_user(model) for model in (person, account)] == [False, True]
        assert users.is_inherited_by_users(person)
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(account)
            editor.delete_model(person)
        forget(person, account)


@pytest.fixture
def hiding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default manager hides users whose email address marks them as deleted."""
    user_model: Any = get_user_model()

    class Shown(type(user_model._default_manager)):  # type: ignore[misc]
        def get_queryset(self) -> Any:
            return super().get_queryset().exclude(email__startswith="deleted")

    manager = Shown()
    manager.model, manager.name = user_model, "objects"
    monkeypatch.setitem(user_model._meta.__dict__, "default_manager", manager)
    monkeypatch.setattr(user_model, "objects", manager)


def hide(user: Any) -> None:
    get_user_model()._base_manager.filter(pk=user.pk).update(email="deleted@example.com")


def test_hidden_user_is_refused_everywhere(ann: Any, hiding: None) -> None:
    browser = Browser()
    browser.login()
    assert browser.post("/auth/introspect", access=browser.access).status_code == 403  # signed in, but not staff
    hide(ann)
    for response in (browser.post("/auth/introspect", access=browser.access), browser.refresh()):
        assert (response.status_code, response.json()["code"]) == (401, "token_revoked")
    assert Browser().login().status_code == 401


def test_sessions_of_a_user_hidden_by_a_save_do_not_come_back(ann: Any, hiding: None) -> None:
    browser = Browser()
    browser.login()
    ann.email = "deleted@example.com"
    ann.save()
    assert Session.objects.get().revoked_reason == Reason.DEACTIVATED
    ann.email = "ann@example.com"
    ann.save()
    assert browser.refresh().json()["code"] == "token_revoked"


def test_sessions_of_a_hidden_user_can_be_ended(ann: Any, hiding: None) -> None:
    session, others = sessions.start(ann), [sessions.start(ann), sessions.start(ann)]
    hide(ann)
    assert sessions.revoke_others(session, Reason.REVOKED) == len(others)
    assert sessions.revoke_all(ann, Reason.STAFF) == 1
    assert not Session.objects.filter(revoked_at=None).exists()


def test_command_finds_a_hidden_user(ann: Any, hiding: None, capsys: pytest.CaptureFixture[str]) -> None:
    sessions.start(ann)
    hide(ann)
    call_command("revoketokens", user="ann")
    assert capsys.readouterr().out.endswith("Revoked 1 active session.\n")
    assert Session.objects.get().revoked_reason == Reason.COMMAND
    for name in ("nobody", "\x00"):
        with pytest.raises(CommandError, match="does not exist"):
            call_command("revoketokens", user=name)


def test_manager_that_hides_nobody_costs_no_extra_statement(ann: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert users.is_shown(ann, "default")
