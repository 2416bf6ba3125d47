"""Asks Pwned Passwords whether a password is known from a data breach (OWASP ASVS 5.0, 6.2.12).

Only five hexadecimal digits of the password's hash leave this server. The answer is padded and lists all known hashes
that begin with them, so the service learns neither the password nor whether it was found.
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
"""Seconds to wait for the answer."""

# The client's own timeout starts again for each step: each address of the service, each part of the answer. It does not
# cover the look-up of the name. So the client runs in a thread, and is abandoned when the time is up.
_asking = ThreadPoolExecutor(thread_name_prefix="pwned-passwords")


class PwnedPasswordsValidator:
    """Refuse a password that the service knows. If it does not answer, the other validators decide."""

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
            logger.warning("Pwned Passwords did not respond in time.")
            return
        if times:
            message = _("This password has appeared in a data breach. Choose one that you don't use anywhere else.")
            raise ValidationError(message, "password_pwned")

    def get_help_text(self) -> str | Promise:
        return _("Your password can't be one that has appeared in a data breach.")
