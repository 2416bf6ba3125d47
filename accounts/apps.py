from django.apps import AppConfig
from django.contrib.admin import apps as admin
from django.core.signals import request_started
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("Accounts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import page_session  # noqa: F401 (it connects to signals, as the notices do)
        from .mail import notices, outbox  # noqa: F401

        request_started.connect(outbox.worker.start)


class AdminConfig(admin.AdminConfig):
    default = False
    default_site = "accounts.sites.AdminSite"
