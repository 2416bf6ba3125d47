"""The models."""

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.db import connection, connections
from django.db.models import CharField, ManyToManyField
from pytest_django import Settings

from tests.clients import App, claims_of
from tokens import models
from tokens.domain import sessions
from tokens.domain.reading import read
from tokens.models import Bucket, Cutoff, FormerToken, Session, TransactionId, uuid7, uuid7_floor
from tokens.tokens import AccessToken


def test_uuid7_follows_rfc_9562() -> None:
    # Appendix A.6, the same moment; the random bits are 0 here.
    moment = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    assert str(uuid7_floor(moment)) == "017f22e2-79b0-7000-8000-000000000000"
    assert (uuid7(moment).version, uuid7(moment).variant) == (7, "specified in RFC 4122")
    assert uuid7(moment) != uuid7(moment)
    assert uuid7_floor(moment) <= uuid7(moment) < uuid7_floor(datetime(2022, 2, 22, 19, 22, 23, tzinfo=UTC))


def test_rows_are_named_by_their_keys(ann: Any) -> None:
    session = sessions.start(ann)
    assert str(session) == str(session.pk)
    assert str(Bucket(slot=7)) == "7"
    assert str(FormerToken(session=session.pk)) == str(session.pk)
    assert str(Cutoff(user=ann)) == str(ann.pk)


def test_transactions_are_numbered_on_postgresql_alone() -> None:
    number: Any = TransactionId()
    assert number.as_sql(None, connection) == ("0", [])
    assert number.as_postgresql(None, connection) != ("0", [])


def test_groups_are_fetched_if_missing(ann: Any) -> None:
    ann.groups.create(name="editors")
    sessions.start(ann)
    assert AccessToken.of(Session.objects.get())["groups"] == ["editors"]


@pytest.fixture
def _no_groups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the user model one without groups."""
    _forget_groups()
    with monkeypatch.context() as patch:
        patch.setattr(models, "groups_field", lambda: None)
        yield
    _forget_groups()


@pytest.mark.parametrize(
    "field",
    [FieldDoesNotExist(), CharField(), Session._meta.get_field("user"), ManyToManyField(Bucket)],
)
def test_unsupported_groups_are_ignored(monkeypatch: pytest.MonkeyPatch, field: Any) -> None:
    def get_field(name: str) -> Any:
        if isinstance(field, Exception):
            raise field
        return field

    model = SimpleNamespace(_meta=SimpleNamespace(get_field=get_field))
    monkeypatch.setattr(models, "get_user_model", lambda: model)
    models.groups_field.cache_clear()
    try:
        assert models.groups_field() is None
    finally:
        models.groups_field.cache_clear()


def _forget_groups() -> None:
    models.group_names.cache_clear()
    connections["default"].__dict__.pop("latchkey_compiled", None)


@pytest.mark.usefixtures("_no_groups")
def test_user_model_without_groups_has_none(ann: Any) -> None:
    ann.groups.create(name="editors")
    app = App()
    app.login()
    assert claims_of(app.access)["groups"] == []
    session = read(Session.objects.get().pk, "default", groups=True)
    assert session is not None
    assert "groups" not in vars(session)


def test_without_a_cap_no_session_is_evicted(ann: Any, settings: Settings) -> None:
    settings.TOKENS_MAX_SESSIONS_PER_USER = 0
    for _ in range(3):
        sessions.start(ann)
    assert Session.objects.live().count() == 3
