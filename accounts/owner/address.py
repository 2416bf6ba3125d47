"""The email address: changing it, and verifying it by a mailed link."""

from contextlib import suppress
from copy import copy

from django.db import transaction

from tokens.domain import events
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried
from tokens.exceptions import TooManyTries

from .. import kinds
from ..mail import composing, links, outbox
from ..mail.links import LinkNotValid
from ..models import MailKind, User
from ..preconditions import WrongPassword, lock_unchanged
from .validation import claiming, clean


@retried
def change_email(user: User, email: str | None, client: Client = UNKNOWN) -> None:
    """Give the account another address, or none. The user's password has been checked.

    The new address has to be verified. The old one gets a mail, in case a thief made the change.
    """
    changed = copy(user)
    changed.email, changed.email_verified = email or "", False
    clean(changed, "email")
    with claiming(changed):
        lock_unchanged(user, WrongPassword())
        changed.save(update_fields=["email", "email_verified"])
        events.announce(kinds.EMAIL_CHANGED, user, client)
        mail_link(changed)
    user.email, user.email_verified = changed.email, False


@retried
def request_verification(user: User) -> None:
    """Mail the link that verifies the address, if there is an unverified one. Raises TooManyTries."""
    if user.email and not user.email_verified:
        composing.spend(MailKind.VERIFY_EMAIL, user.email)
        outbox.queue(MailKind.VERIFY_EMAIL, user.email)


def mail_link(user: User) -> None:
    """Mail it, unless the address got too many. Its owner can ask again later, and a stranger can't flood it."""
    with suppress(TooManyTries):
        request_verification(user)


@retried
def verify_email(uid: str, token: str, client: Client = UNKNOWN) -> None:
    """Mark the address as verified, since the link was read there. Raises LinkNotValid."""
    user = links.verify_email.open(uid, token)
    with transaction.atomic():
        lock_unchanged(user, LinkNotValid())
        mark_verified(user, client)


def mark_verified(user: User, client: Client) -> None:
    user.email_verified, user.awaiting_verification = True, False
    user.save(update_fields=["email_verified", "awaiting_verification"])
    events.announce(kinds.EMAIL_VERIFIED, user, client)
