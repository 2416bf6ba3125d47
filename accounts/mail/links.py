"""The links in mails. Each works for one user and one purpose, once, within PASSWORD_RESET_TIMEOUT seconds."""

from urllib.parse import quote

from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.exceptions import ValidationError
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode
from django.utils.translation import gettext_lazy as _

from ..models import User

LENGTH = 200
"""The most characters of a link's uid or token."""


class LinkNotValid(ValidationError):
    def __init__(self) -> None:
        message = _("The link is not valid or was used before. Ask for a new one.")
        super().__init__({"token": ValidationError(message, "link_not_valid")})


class Link(PasswordResetTokenGenerator):
    """The link to a page.

    Its token is valid until something it depends on changes: the password, the address, a sign-in to the admin.
    """

    def __init__(self, page: str, setting: str) -> None:
        super().__init__()
        self.page, self.setting = page, setting
        self.key_salt = f"accounts.mail.links:{page}"

    def url(self, user: User) -> str:
        """Return the URL with the link: of the page in the setting, or of the server's own page."""
        # In the fragment, so the secret is in no log and no Referer.
        own = f"{settings.PUBLIC_URL}/{self.page}#uid={{uid}}&token={{token}}"
        url: str = getattr(settings, self.setting) or own
        uid = urlsafe_base64_encode(force_bytes(user.pk))
        return url.replace("{uid}", quote(uid, safe="")).replace("{token}", quote(self.make_token(user), safe=""))

    def open(self, uid: str, token: str) -> User:
        """Return the user whose link it is. Raises LinkNotValid."""
        try:
            user = User.objects.get(pk=urlsafe_base64_decode(uid).decode(), is_active=True)
            is_good = self.check_token(user, token)
        except (ValueError, User.DoesNotExist) as error:
            raise LinkNotValid from error
        if not is_good:
            raise LinkNotValid
        return user


class VerificationLink(Link):
    """Valid until the address changes or is verified."""

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        return f"{user.pk} {timestamp} {user.email} {user.email_verified}"


reset_password = Link("reset-password", "PASSWORD_RESET_URL")
verify_email = VerificationLink("verify-email", "EMAIL_VERIFICATION_URL")
