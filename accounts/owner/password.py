"""Changing the password, and resetting it by a mailed link.

Passwords are hashed before a transaction begins, as at a registration.
"""

from copy import copy

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from tokens.domain import events, sessions
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried
from tokens.models import Reason, Session

from .. import kinds
from ..factors import second_factor
from ..mail import composing, links, outbox
from ..mail.links import LinkNotValid
from ..models import MailKind, PasswordChange, User
from ..preconditions import WrongPassword, lock_unchanged, require_password
from .address import mark_verified
from .validation import validate_password


class NoResetPossible(ValidationError):
    """There is no address to send a link to, or the user could not sign in."""

    text = _("The account has no email address or is inactive.")

    def __init__(self) -> None:
        super().__init__(self.text, "no_reset_possible")


def change_password(
    session: Session, current_password: str | None, new_password: str, client: Client = UNKNOWN
) -> Session:
    """Change the password of the session's user, end every session, and return the one that replaces this one.

    Raises TokenRevoked if the session has ended meanwhile.
    """
    require_password(session, current_password, client)
    return _change(session, _with_password(session.user, new_password), client)


def replace_password(session: Session, new_password: str, client: Client = UNKNOWN) -> Session:
    """Do the same, after both passwords have been checked.

    Raises TokenRevoked, as `change_password` does.
    """
    return _change(session, _having(session.user, new_password), client)


@retried
def _change(session: Session, changed: User, client: Client) -> Session:
    user = session.user
    change = PasswordChange(kinds.PASSWORD_CHANGED, client, session)
    with transaction.atomic():
        lock_unchanged(user, WrongPassword())
        # Before the change, since they are found by the former password's fingerprint.
        sessions.revoke_others(session, Reason.PASSWORD, client, user)
        changed.save(update_fields=["password"], password_change=change)
        return sessions.succeed(session, changed, client)


@retried
def request_reset(email: str) -> None:
    """Mail a link that sets a new password, if the address is known. Raises TooManyTries.

    The address is looked up when the mail is sent. Nothing is looked up here, so the time taken reveals nothing.
    """
    composing.spend(MailKind.RESET_PASSWORD, email)
    outbox.queue(MailKind.RESET_PASSWORD, email)


@retried
def send_reset(user: User, client: Client = UNKNOWN) -> None:
    """Mail the user a link that sets a new password, for staff. Raises NoResetPossible or TooManyTries.

    Unlike a reset that anybody can ask for, it also serves users who never had a password.
    """
    reachable = User.objects.filter(is_active=True).exclude(email="")
    with transaction.atomic():
        held = reachable.select_for_update(no_key=True).filter(pk=user.pk).first()
        if held is None:
            raise NoResetPossible
        composing.spend(MailKind.SET_PASSWORD, held.email)
        events.announce(kinds.PASSWORD_RESET_SENT, held, client)
        outbox.queue(MailKind.SET_PASSWORD, held.email)


@retried
def reset_password(uid: str, token: str, new_password: str, client: Client = UNKNOWN) -> None:
    """Set a new password by a mailed link, and end every session. Raises LinkNotValid."""
    user = links.reset_password.open(uid, token)
    changed = _with_password(user, new_password)
    change = PasswordChange(kinds.PASSWORD_RESET, client)
    with transaction.atomic():
        # `lock_unchanged` compares what the token depends on, so of two parallel tries one is refused.
        lock_unchanged(user, LinkNotValid())
        if not user.email_verified:
            # The token also depends on the address, so the link was read there.
            mark_verified(user, client)
            # The address was unverified until now, so a stranger may have set up the second factor.
            second_factor.drop(user, client)
        sessions.revoke_all(user, Reason.PASSWORD, client)
        changed.save(update_fields=["password"], password_change=change)


def _with_password(user: User, new_password: str) -> User:
    """Return a copy of the user with the new password, if that is strong enough."""
    validate_password(user, new_password, "new_password")
    return _having(user, new_password)


def _having(user: User, new_password: str) -> User:
    changed = copy(user)
    changed.set_password(new_password)
    return changed
