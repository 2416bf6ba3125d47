"""Asks Pwned Passwords whether a password is known from a data breach (OWASP ASVS 5.0, 6.2.12).

Five hexadecimal digits of the password's hash leave this server, and the answer, which is padded, holds every known
password that begins with them: the service does not learn which one was meant, nor whether it was found.
"""

import logging
from concurrent.futures import ThreadPoolExecutor

from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from pwned_passwords_django.api import PwnedPasswords
from pwned_passwords_django.exceptions import PwnedPasswordsError

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that a registration waits for the answer."""

# The client's own timeout is for each step anew: for each address of the service, and for each part of the answer. Nor
# does it hold for the look-up of the name. So the client works aside, and is left alone when its time is up.
_asking = ThreadPoolExecutor(thread_name_prefix="pwned-passwords")


class PwnedPasswordsValidator:
    """Refuse a password that the service knows; while it does not answer, the other validators decide alone."""

    def __init__(self, endpoint: str = PwnedPasswords.api_endpoint) -> None:
        self.client = PwnedPasswords()
        self.client.api_endpoint = endpoint

    def validate(self, password: str, user: object = None) -> None:
        asked = _asking.submit(self.client.check_password, password)
        try:
            times = asked.result(PATIENCE)
        except PwnedPasswordsError:
            return  # the client has logged why
        except TimeoutError:
            asked.cancel()
            logger.warning("Pwned Passwords has not answered in time.")
            return
        if times:
            message = _("This password has appeared in a data breach. Choose one that you don't use anywhere else.")
            raise ValidationError(message, "password_pwned")

    def get_help_text(self) -> str | Promise:
        return _("Your password can't be one that has appeared in a data breach.")
