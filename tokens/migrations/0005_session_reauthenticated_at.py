from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tokens", "0004_session_remembered"),
    ]

    operations = [
        migrations.AddField(
            model_name="session",
            name="reauthenticated_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="password given again"),
        ),
    ]
