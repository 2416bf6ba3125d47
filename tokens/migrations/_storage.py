"""How PostgreSQL keeps the table of sessions. Django's model options can't say it."""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def set_storage(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Leave room on each page, so that a rotation updates its row in place: it touches no index.

    And vacuum sooner than by default, so that new sessions use the room of deleted ones. docs/scaling.md has the
    figures of each choice.
    """
    if schema_editor.connection.vendor == "postgresql":
        table = apps.get_model("latchkey", "Session")._meta.db_table
        settings = "fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05"
        schema_editor.execute(f"ALTER TABLE {schema_editor.quote_name(table)} SET ({settings})")
