import re
from collections.abc import Sequence
from smtplib import SMTPDataError
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

HINT = "If you just registered, open the link in the email first. Reset your password to get a new link."
"""The message of every refused login if addresses have to be verified."""


def link_in(mail: EmailMessage) -> dict[str, Any]:
    """Return what the page of the mailed link sends: `uid` and `token`."""
    (url,) = re.findall(r"https?://\S+", str(mail.body))
    return {name: value for name, (value,) in parse_qs(urlsplit(url).fragment, strict_parsing=True).items()}


class Refusing(BaseEmailBackend):
    """A mail server that refuses every mail, and quotes it in the response."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        raise SMTPDataError(554, str(email_messages[0].body).encode())
