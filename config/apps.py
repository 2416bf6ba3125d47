from django.apps import AppConfig
from django.db.backends.signals import connection_created


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        from .serving import checks  # noqa: F401 (registers the system checks)
        from .serving.private import protect

        connection_created.connect(protect)
