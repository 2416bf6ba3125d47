"""What owners do with their second factor, and what staff does when the device is lost.

Whatever is refused is a ValidationError, by the field of the use case.
"""

from datetime import datetime
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from tokens.domain import events, limits, sessions
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried
from tokens.domain.sessions import PASSWORD
from tokens.exceptions import SecondFactorRequired
from tokens.models import Session

from .. import kinds
from ..holding import WrongPassword, confirm_password, hold
from ..models import User
from . import codes, recovery_codes, registry
from .factor import CodeNotValid


class Status(NamedTuple):
    enabled_at: datetime | None
    recovery_codes_left: int


def status(user: User) -> Status:
    enabled_at = registry.since(user)
    return Status(enabled_at, user.recovery_codes.count() if enabled_at else 0)


def reauthenticate(session: Session, current_password: str, code: str, client: Client = UNKNOWN) -> None:
    """Renew the sign-in of the session's user. A user with a second factor gives a code as well.

    Raises TokenRevoked if the session has ended meanwhile.
    """
    user = session.user
    confirm_password(user, current_password, client)
    amr = _judge(user, code, client) if registry.since(user) else PASSWORD
    with transaction.atomic():
        hold(user, WrongPassword())
        sessions.reauthenticate(session, client, amr)


# The authenticator app


def enrol(session: Session, current_password: str, client: Client = UNKNOWN) -> tuple[str, str]:
    """Give the session's user a secret for an authenticator app; return it in base32, and as an otpauth URI.

    It takes the place of one that was never confirmed.
    """
    confirm_password(session.user, current_password, client)
    return _enrol(session.user)


@retried
def _enrol(user: User) -> tuple[str, str]:
    with transaction.atomic():
        hold(user, WrongPassword())
        if codes.since(User.objects.get(pk=user.pk)):
            raise ValidationError(_("You have a second factor. Remove it first."), "second_factor_enabled")
        return codes.enrol(user)


def confirm(session: Session, code: str, client: Client = UNKNOWN) -> list[str] | None:
    """Ask for codes of the app from now on, since it knows them.

    Return the recovery codes, if this is the account's first second factor.
    """
    user, refused = session.user, ValidationError(_("There is nothing to confirm. Begin anew."), "nothing_to_confirm")
    app = codes.pending(user)
    if app is None:
        raise refused
    bucket = registry.spend(user)
    step = codes.proves(app, code)
    if step is None:
        raise CodeNotValid
    limits.clear(bucket)
    with transaction.atomic():
        hold(user, refused)
        if not codes.enable(app, step):
            raise refused
        events.announce(kinds.SECOND_FACTOR_ENABLED, user, client, session)
        return registry.joined(user, codes)


def remove(session: Session, current_password: str, code: str, client: Client = UNKNOWN) -> None:
    """Remove the authenticator app."""
    user = session.user
    confirm_password(user, current_password, client)
    _demand(user, code, client)
    with transaction.atomic():
        hold(user, WrongPassword())
        if not codes.remove(user):
            raise _nothing_enabled()
        registry.left(user, codes)
        events.announce(kinds.SECOND_FACTOR_REMOVED, user, client, session)


# The second factor as a whole


def renew_recovery_codes(session: Session, current_password: str, code: str, client: Client = UNKNOWN) -> list[str]:
    """Replace the recovery codes."""
    user = session.user
    confirm_password(user, current_password, client)
    _demand(user, code, client)
    with transaction.atomic():
        hold(user, WrongPassword())
        if not registry.since(User.objects.get(pk=user.pk)):
            raise _nothing_enabled()
        events.announce(kinds.RECOVERY_CODES_RENEWED, user, client, session)
        return recovery_codes.issue(user)


@retried
def take_away(user: User, client: Client = UNKNOWN) -> bool:
    """Remove, for staff, the second factor of a user who can't do it; return whether there was one."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
        if not registry.remove_all(user):
            return False
        events.announce(kinds.SECOND_FACTOR_REMOVED, user, client)
        return True


def _demand(user: User, code: str, client: Client) -> None:
    """Use a code of the user's second factor up. Raises a ValidationError or TooManyTries."""
    if not registry.since(user):
        raise _nothing_enabled()
    _judge(user, code, client)


def _judge(user: User, code: str, client: Client) -> tuple[str, ...]:
    if not code:
        raise ValidationError({"code": ValidationError(SecondFactorRequired.message, SecondFactorRequired.code)})
    return tuple(registry.judge(user, {"code": code}, client))


def _nothing_enabled() -> ValidationError:
    return ValidationError(_("You have no second factor."), "no_second_factor")
