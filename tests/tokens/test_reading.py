"""The statement that is compiled once reads the same as Django's."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connections
from django.db.models import Model

from tokens.domain import sessions
from tokens.domain.client import Client
from tokens.domain.reading import active, read
from tokens.models import Session


def columns(row: Model) -> dict[str, tuple[type, Any]]:
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    return {name: (type(value), bytes(value) if name == "secret" else value) for name, value in values.items()}


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("names_user", [False, True])
def test_compiled_read_equals_djangos(ann: Any, groups: bool, names_user: bool) -> None:
    ann.groups.set([Group.objects.create(name="editors"), Group.objects.create(name="café")])
    session = sessions.start(ann, Client("2001:db8::1", "Agent"))
    user = str(ann.pk) if names_user else ""
    read_once, again = (read(session.pk, "default", user, groups=groups) for _ in range(2))
    expected = Session.objects.select_related("user").get(pk=session.pk)
    for found in (read_once, again):
        assert found is not None
        assert columns(found) == columns(expected)
        assert (type(found.user), columns(found.user)) == (get_user_model(), columns(expected.user))
        assert (found._state.db, found._state.adding) == ("default", False)
        assert sorted(found.groups or ()) == ["café", "editors"]


@pytest.mark.parametrize("user", ["0", "-1", "1.5", "ann", "9" * 30])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_naming_nobody_finds_the_session(ann: Any, user: str, is_compiled: bool) -> None:
    session = sessions.start(ann)
    connections["default"].__dict__.pop("latchkey_compiled", None)
    if is_compiled:
        read(session.pk, "default", str(ann.pk))
    found = read(session.pk, "default", user)
    assert found is not None
    assert found.user == ann


@pytest.mark.parametrize("groups", [False, True])
def test_one_statement_reads_everything(ann: Any, groups: bool, django_assert_num_queries: Any) -> None:
    session = sessions.start(ann)
    with django_assert_num_queries(1):
        found = read(session.pk, "default", str(ann.pk), groups=groups)
        assert found is not None
        assert found.user.get_username() == "ann"
        assert not groups or not found.groups


@pytest.mark.django_db
def test_missing_row_is_none() -> None:
    assert read(uuid4(), "default") is None


@pytest.mark.django_db
def test_statement_is_compiled_once_per_connection() -> None:
    connections["default"].__dict__.pop("latchkey_compiled", None)
    read(uuid4(), "default")
    (compiled,) = connections["default"].__dict__["latchkey_compiled"].values()
    read(uuid4(), "default")
    assert [*connections["default"].__dict__["latchkey_compiled"].values()] == [compiled]
    assert next(iter(connections["default"].__dict__["latchkey_compiled"].values())) is compiled


def test_user_model_without_a_column_for_active_users_has_no_select_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokens.domain.reading.get_user_model", lambda: Group)
    assert active(1, "default") is None
