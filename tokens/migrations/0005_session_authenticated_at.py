from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from django.db.models.functions import Now


def begin_with_the_login(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    sessions = apps.get_model("tokens", "Session").objects.using(schema_editor.connection.alias)
    sessions.update(authenticated_at=models.F("created_at"))


class Migration(migrations.Migration):
    dependencies = [
        ("tokens", "0004_session_remembered"),
    ]

    # The database's own default is for servers of the former version, which go on until they are restarted.
    operations = [
        migrations.AddField(
            model_name="session",
            name="authenticated_at",
            field=models.DateTimeField(db_default=Now(), verbose_name="password last given"),
        ),
        migrations.RunPython(begin_with_the_login, migrations.RunPython.noop),
    ]
