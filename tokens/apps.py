from importlib import import_module

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TokensConfig(AppConfig):
    name = "tokens"
    verbose_name = _("Sessions and tokens")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        for module in ("checks", "log", "receivers"):
            import_module(f"{self.name}.{module}")
