"""What owners do with their second factor, and what staff does when the device is lost.

Refusals are ValidationErrors, by the field of the use case.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from tokens.domain import events, limits, sessions
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried
from tokens.domain.sessions import PASSWORD
from tokens.domain.signing_in import Answer
from tokens.exceptions import SecondFactorRequired
from tokens.models import Reason, Session

from .. import kinds
from ..models import User
from ..preconditions import WrongPassword, lock_unchanged, require_password
from . import codes, passkeys, recovery_codes, registry
from .factor import CodeNotValid


class EmailNotVerified(Exception):
    """The account's address is not verified."""

    code = "email_not_verified"
    message = _("Verify your email address first.")


class NoPassword(Exception):
    """The account has neither a password nor a second factor, so only another sign-in renews the sign-in."""

    code = "no_password"
    message = _("Your account has no password. Sign in again instead.")


class Status(NamedTuple):
    enabled_at: datetime | None
    recovery_codes_left: int
    passkeys: int


def status(user: User) -> Status:
    enabled_at = registry.since(user)
    left = user.recovery_codes.count() if enabled_at else 0
    return Status(enabled_at, left, user.passkeys.count())


def prove(session: Session, current_password: str | None, answer: Answer, client: Client = UNKNOWN) -> Sequence[str]:
    """Require the password of the session's user, and the second factor if there is one.

    Return how the user has signed in (RFC 8176). Call it outside of a transaction: a rollback would undo the count of
    wrong tries. Raises a ValidationError, AnswerNotValid or TooManyTries.
    """
    require_password(session, current_password, client)
    return _verify(session.user, answer, client) if registry.since(session.user) else PASSWORD


def reauthenticate(session: Session, current_password: str | None, answer: Answer, client: Client = UNKNOWN) -> None:
    """Renew the sign-in of the session's user. A passkey needs no password.

    An account without a password needs its second factor instead: a recent sign-in must not renew itself, or a copy of
    its access token could do so forever. Raises NoPassword if there is none, as `prove` does, and TokenRevoked if the
    session has ended.
    """
    user = session.user
    if current_password is None and passkeys.FIELD in answer:
        amr = passkeys.prove(user, answer, client)
    elif user.has_usable_password():
        amr = prove(session, current_password, answer, client)
    elif registry.since(user):
        amr = [method for method in _verify(user, answer, client) if method not in PASSWORD]
    else:
        raise NoPassword
    with transaction.atomic():
        lock_unchanged(user, WrongPassword())
        sessions.reauthenticate(session, client, amr)


def check_address(user: User) -> None:
    """Refuse a second factor for an unverified address, which may be a stranger's. Raises EmailNotVerified."""
    if user.email and not user.email_verified:
        raise EmailNotVerified


# The authenticator app


def enrol(session: Session, current_password: str | None, client: Client = UNKNOWN) -> tuple[str, str]:
    """Give the session's user a secret for an authenticator app; return it in base32, and as an otpauth URI.

    It replaces one that was never confirmed. Raises EmailNotVerified as well.
    """
    check_address(session.user)
    require_password(session, current_password, client)
    return _enrol(session.user)


@retried
def _enrol(user: User) -> tuple[str, str]:
    with transaction.atomic():
        lock_unchanged(user, WrongPassword())
        if codes.since(User.objects.get(pk=user.pk)):
            raise ValidationError(
                _("Two-factor authentication is already on. Turn it off first."), "second_factor_enabled"
            )
        return codes.enrol(user)


def enable(session: Session, code: str, client: Client = UNKNOWN, *, end_others: bool = False) -> list[str] | None:
    """Require the app's codes from now on, since it makes the right ones; end the user's other sessions if asked.

    Return the recovery codes, if this is the account's only second factor. Raises EmailNotVerified as well.
    """
    check_address(session.user)
    user, refused = (
        session.user,
        ValidationError(_("There is no two-factor setup to confirm. Start again."), "nothing_to_confirm"),
    )
    app = codes.pending(user)
    if app is None:
        raise refused
    buckets = registry.spend(user, client)
    step = codes.proves(app, code)
    if step is None:
        raise CodeNotValid
    limits.clear(*buckets)
    with transaction.atomic():
        lock_unchanged(user, refused)
        if not codes.enable(app, step):
            raise refused
        events.announce(kinds.SECOND_FACTOR_ENABLED, user, client, session)
        if end_others:
            sessions.revoke_others(session, Reason.REVOKED, client, user)
        return registry.joined(user, codes)


def remove(
    session: Session,
    current_password: str | None,
    answer: Answer,
    client: Client = UNKNOWN,
    *,
    end_others: bool = False,
) -> None:
    """Remove the authenticator app; end the user's other sessions if asked."""
    user = session.user
    require_password(session, current_password, client)
    _demand(user, answer, client)
    with transaction.atomic():
        lock_unchanged(user, WrongPassword())
        if not codes.remove(user):
            raise _nothing_enabled()
        registry.left(user, codes)
        events.announce(kinds.SECOND_FACTOR_REMOVED, user, client, session)
        if end_others:
            sessions.revoke_others(session, Reason.REVOKED, client, user)


# The second factor as a whole


def renew_recovery_codes(
    session: Session, current_password: str | None, answer: Answer, client: Client = UNKNOWN
) -> list[str]:
    """Replace the recovery codes."""
    user = session.user
    require_password(session, current_password, client)
    _demand(user, answer, client)
    with transaction.atomic():
        lock_unchanged(user, WrongPassword())
        if not registry.since(User.objects.get(pk=user.pk)):
            raise _nothing_enabled()
        events.announce(kinds.RECOVERY_CODES_RENEWED, user, client, session)
        return recovery_codes.issue(user)


@retried
def take_away(user: User, client: Client = UNKNOWN) -> bool:
    """Remove, for staff, the second factor of a user who has lost it; return whether there was one."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
        return drop(user, client)


def drop(user: User, client: Client) -> bool:
    """Remove the second factor of a user whose row is locked; return whether there was one."""
    if not registry.remove_all(user):
        return False
    events.announce(kinds.SECOND_FACTOR_REMOVED, user, client)
    return True


def _demand(user: User, answer: Answer, client: Client) -> None:
    """Require an answer of the user's second factor. Raises a ValidationError, AnswerNotValid or TooManyTries."""
    if not registry.since(user):
        raise _nothing_enabled()
    _verify(user, answer, client)


def _verify(user: User, answer: Answer, client: Client) -> Sequence[str]:
    if not answer:
        raise ValidationError({"code": ValidationError(SecondFactorRequired.message, SecondFactorRequired.code)})
    return registry.verify(user, answer, client)


def _nothing_enabled() -> ValidationError:
    return ValidationError(_("Two-factor authentication is off."), "no_second_factor")
