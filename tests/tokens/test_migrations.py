"""What the migrations leave behind."""

import pytest
from django.db import connection

from tokens.models import Session

pytestmark = pytest.mark.django_db


def test_sessions_table_leaves_room_for_updates_in_place() -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT reloptions FROM pg_class WHERE relname = %s", [Session._meta.db_table])
            assert cursor.fetchone() == (["fillfactor=70"],)
