"""The pages for people. They are the same for everybody: a script fetches the user's own data."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseRedirect
from django.templatetags.static import static
from django.urls import path
from django.utils.translation import gettext
from django.views.generic import TemplateView

from accounts.factors import passkeys
from tokens import kinds
from tokens.conf import conf
from tokens.models import Reason


class SignInPage(TemplateView):
    """A page with a sign-in. All such pages use a key, or none do, since they share the cookie."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        # A front end on another origin shares the cookie as well, but can't use the key.
        proves = conf.dpop == "required" or (conf.dpop == "optional" and not conf.trusted_origins)
        return super().get_context_data(proves_a_key=proves, **kwargs)


class AccountPage(SignInPage):
    template_name = "account.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            registration_open=settings.REGISTRATION_OPEN,
            verification_required=settings.EMAIL_VERIFICATION_REQUIRED,
            has_passkeys=passkeys.usable(),
            kinds=kinds.choices(),
            reasons=[*{**dict(Reason.choices), Reason.REVOKED: gettext("revoked by you")}.items()],
            **kwargs,
        )


class VerificationPage(TemplateView):
    template_name = "verify_email.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(verification_required=settings.EMAIL_VERIFICATION_REQUIRED, **kwargs)


def favicon(request: HttpRequest) -> HttpResponseRedirect:
    """Redirect to the icon, for responses without an icon link: JSON, and pages that are not ours."""
    return HttpResponseRedirect(static("latchkey.svg"))


app_name = "pages"

urlpatterns = [
    path("", AccountPage.as_view(), name="account"),
    path("reset-password", TemplateView.as_view(template_name="reset_password.html"), name="reset_password"),
    path("verify-email", VerificationPage.as_view(), name="verify_email"),
    path("favicon.ico", favicon, name="favicon"),
    path("client", SignInPage.as_view(template_name="client.html"), name="client"),
]
