"""How PostgreSQL keeps the table of sessions. Django's model options can't say it."""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def set_storage(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Leave room on each page, so that a rotation updates its row in place: it touches no index."""
    if schema_editor.connection.vendor == "postgresql":
        table = apps.get_model("latchkey", "Session")._meta.db_table
        schema_editor.execute(f"ALTER TABLE {schema_editor.quote_name(table)} SET (fillfactor = 70)")
