from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class LatchkeyConfig(AppConfig):
    """The app is known by its label, so its folder can have any name and location."""

    name = __package__
    label = "latchkey"
    verbose_name = _("Sessions and tokens")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, receivers  # noqa: F401 (register the system checks, connect to signals)

        receivers.listen(apps.get_models())
