"""What a migration makes of the rows that are there."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tokens import sessions
from tokens.models import Session

pytestmark = pytest.mark.django_db(transaction=True)


def migrate(*targets: tuple[str, str]) -> Any:
    """Move there; return the models as they are there."""
    executor = MigrationExecutor(connection)
    return executor.migrate(list(targets)).apps


@pytest.fixture
def _latest() -> Iterator[None]:
    yield
    migrate(*[node for node in MigrationExecutor(connection).loader.graph.leaf_nodes() if node[0] == "tokens"])


@pytest.mark.usefixtures("_latest")
def test_sessions_from_before_are_remembered_and_as_old_as_their_login(ann: Any) -> None:
    began = datetime.fromisoformat("2029-12-31T23:59:59.123456+00:00")
    for session in (sessions.start(ann), sessions.start(ann)):
        Session.objects.filter(pk=session.pk).update(created_at=began, remembered=False)
    migrate(("tokens", "0003_session_amr"))
    assert "remembered" not in {column.name for column in described()}

    migrate(("tokens", "0006_session_revoked_by"))

    rows = [(session.authenticated_at, session.remembered) for session in Session.objects.all()]
    assert rows == [(began, True)] * 2


@pytest.mark.usefixtures("_latest")
def test_server_of_before_goes_on_until_it_is_restarted(ann: Any) -> None:
    former = migrate(("tokens", "0003_session_amr")).get_model("tokens", "Session")
    migrate(("tokens", "0006_session_revoked_by"))
    now = datetime.fromisoformat("2030-01-01T12:00:00+00:00")

    former.objects.create(user_id=ann.pk, created_at=now, rotated_at=now, expires_at=now)

    session = Session.objects.get()
    assert session.remembered
    assert session.authenticated_at == now
    assert (session.revoked_by, session.revoked_from) == ("", None)


def described() -> Any:
    with connection.cursor() as cursor:
        return connection.introspection.get_table_description(cursor, Session._meta.db_table)
