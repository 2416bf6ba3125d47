from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class LatchkeyConfig(AppConfig):
    """The app goes by its label, so its folder may have any name and lie anywhere."""

    name = __package__
    label = "latchkey"
    verbose_name = _("Sessions and tokens")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks, receivers  # noqa: F401 (register the system checks, connect to signals)

        receivers.listen(apps.get_models())
