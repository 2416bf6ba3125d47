from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tokens", "0003_session_amr"),
    ]

    # The database's own default is for servers of the former version, which go on until they are restarted.
    operations = [
        migrations.AddField(
            model_name="session",
            name="remembered",
            field=models.BooleanField(db_default=True, default=True, verbose_name="outlives the browser"),
        ),
    ]
