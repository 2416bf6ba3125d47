"""The tables after the migrations."""

import pytest
from django.db import connection

from tokens.models import Session

pytestmark = pytest.mark.django_db


def test_session_table_leaves_room_for_in_place_updates() -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT reloptions FROM pg_class WHERE relname = %s", [Session._meta.db_table])
            assert cursor.fetchone() == (["fillfactor=90", "autovacuum_vacuum_scale_factor=0.05"],)
