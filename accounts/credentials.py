"""What an account's owner does about name, password and address.

Whatever is refused is a ValidationError by field. Passwords are hashed before a transaction begins: it takes tens of
milliseconds, in which a transaction would keep every other writer of SQLite waiting.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from copy import copy

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _

from tokens import log, sessions
from tokens.exceptions import TooManyTries
from tokens.models import Kind, Reason, Session, fingerprints
from tokens.outages import retried
from tokens.sessions import UNKNOWN, Client

from . import links, mails, notices, outbox
from .links import LinkNotValid
from .models import MailKind, PasswordEvent, User


class WrongPassword(ValidationError):
    def __init__(self) -> None:
        message = _("This is not your password.")
        super().__init__({"current_password": ValidationError(message, "wrong_password")})


class NoResetPossible(ValidationError):
    """There is nowhere that a link could go to, or nobody whom it would let in."""

    text = _("The account has no e-mail address, or is deactivated.")

    def __init__(self) -> None:
        super().__init__(self.text, "no_reset_possible")


@retried
def register(
    username: str, password: str, email: str | None = None, client: Client = UNKNOWN, *, remembered: bool = True
) -> Session:
    """Make an account and sign in to it."""
    user = User(username=username, email=email or "")
    _judge(user, password)
    user.set_password(password)
    with _claiming(user):
        user.save(force_insert=True)
        log.record(Kind.REGISTERED, user, client)
        _mail_link(user)
        return sessions.start(user, client, remembered=remembered)


def register_unverified(username: str, password: str, email: str, client: Client = UNKNOWN) -> None:
    """Make an account that lets nobody in before its address has been verified. Raises TooManyTries.

    Whether the address is known is told nowhere but in the mail that goes to it. If it is, the account is made all the
    same, without it, and so for good without a way in: the name is taken in either case, by the same work.
    """
    user = User(username=username, email=email, awaiting_verification=True)
    _judge(user, password, untold=["email"])
    mails.spend(MailKind.VERIFY_EMAIL, user.email)
    user.set_password(password)
    is_known = User.objects.filter(email_key=user.email_key).exists()
    try:
        _enter(user, client, is_known)
    except IntegrityError:
        _enter(user, client, is_known=True)  # the address was taken in this moment


@retried
def _enter(user: User, client: Client, is_known: bool) -> None:
    made, mail = copy(user), MailKind.VERIFY_EMAIL
    if is_known:
        made.email, mail = "", MailKind.ALREADY_REGISTERED
    with _claiming(made, untold=["email"]):
        made.save(force_insert=True)
        log.record(Kind.REGISTERED, made, client)
        outbox.queue(mail, user.email)


@retried
def change_username(user: User, username: str) -> None:
    changed = copy(user)
    changed.username = username
    _clean(changed, "username")
    with _claiming(changed):
        changed.save(update_fields=["username"])
    user.username = changed.username


@retried
def change_email(user: User, email: str | None, client: Client = UNKNOWN) -> None:
    """Give the account another address, or none. The user's password has been judged.

    The new address has to be verified; the old one is told, in case it was a thief.
    """
    changed = copy(user)
    changed.email, changed.email_verified = email or "", False
    _clean(changed, "email")
    with _claiming(changed):
        hold(user, WrongPassword())
        changed.save(update_fields=["email", "email_verified"])
        log.record(Kind.EMAIL_CHANGED, user, client)
        notices.queue(MailKind.EMAIL_CHANGED, user.email, client)
        _mail_link(changed)
    user.email, user.email_verified = changed.email, False


@retried
def request_verification(user: User) -> None:
    """Mail the link that verifies the address, if there is one and it needs it. Raises TooManyTries."""
    if user.email and not user.email_verified:
        mails.spend(MailKind.VERIFY_EMAIL, user.email)
        outbox.queue(MailKind.VERIFY_EMAIL, user.email)


def _mail_link(user: User) -> None:
    """Do so unless that address was sent too many: who reads its mails can ask again, and nobody else floods it."""
    with suppress(TooManyTries):
        request_verification(user)


@retried
def verify_email(uid: str, token: str, client: Client = UNKNOWN) -> None:
    """Take it that the address is the user's, since the link was read there. Raises LinkNotValid."""
    user = links.verify_email.open(uid, token)
    with transaction.atomic():
        hold(user, LinkNotValid())
        _mark_verified(user, client)


@retried
def change_password(session: Session, new_password: str, client: Client = UNKNOWN) -> None:
    """Change the password of the session's user, which has been judged, and end every other session."""
    user = session.user
    changed = _with_password(user, new_password)
    changed.password_event = PasswordEvent(Kind.PASSWORD_CHANGED, client, session)
    with transaction.atomic():
        hold(user, WrongPassword())
        # They are found by the former password's fingerprint.
        sessions.revoke_others(session, Reason.PASSWORD, client, user)
        changed.save(update_fields=["password"])
        sessions.renew_auth_hash(changed, fingerprints(user), only=session)


@retried
def request_reset(email: str) -> None:
    """Mail a link that sets a new password, if the address is known: that is found out when the mail is sent.
    Raises TooManyTries.

    Here nothing is looked up, so that the work, and the time that it takes, tells nothing.
    """
    mails.spend(MailKind.RESET_PASSWORD, email)
    outbox.queue(MailKind.RESET_PASSWORD, email)


@retried
def send_reset(user: User, client: Client = UNKNOWN) -> None:
    """Mail the user, for staff, a link that sets a new password. Raises NoResetPossible or TooManyTries.

    Unlike a reset that anybody can ask for, it serves who has never had a password, too.
    """
    reachable = User.objects.filter(is_active=True).exclude(email="")
    with transaction.atomic():
        held = reachable.select_for_update(no_key=True).filter(pk=user.pk).first()
        if held is None:
            raise NoResetPossible
        mails.spend(MailKind.SET_PASSWORD, held.email)
        log.record(Kind.PASSWORD_RESET_SENT, held, client)
        outbox.queue(MailKind.SET_PASSWORD, held.email)


@retried
def replace_password(user: User, new_password: str, client: Client = UNKNOWN) -> None:
    """Set a password that has been judged, as has the user's present one, and end every session."""
    changed = copy(user)
    changed.set_password(new_password)
    changed.password_event = PasswordEvent(Kind.PASSWORD_CHANGED, client)
    with transaction.atomic():
        hold(user, WrongPassword())
        sessions.revoke_all(user, Reason.PASSWORD, client, user)
        changed.save(update_fields=["password"])
    user.password = changed.password


@retried
def reset_password(uid: str, token: str, new_password: str, client: Client = UNKNOWN) -> None:
    """Set a new password by a mailed link, and end every session. Raises LinkNotValid."""
    user = links.reset_password.open(uid, token)
    changed = _with_password(user, new_password)
    changed.password_event = PasswordEvent(Kind.PASSWORD_RESET, client)
    with transaction.atomic():
        # The token is bound to what is compared here, so of two tries at once one is refused.
        hold(user, LinkNotValid())
        sessions.revoke_all(user, Reason.PASSWORD, client)
        changed.save(update_fields=["password"])
        if not user.email_verified:
            # The token is bound to the address as well, so that is where it was read.
            _mark_verified(user, client)


@retried
def delete_account(user: User, client: Client = UNKNOWN) -> None:
    """Delete the user, whose password has been judged, with every session and the log; one line of the logger stays."""
    with transaction.atomic():
        hold(user, WrongPassword())
        log.record(Kind.ACCOUNT_DELETED, user, client)
        copy(user).delete()  # which takes the key away, although it may have to be tried again


def _mark_verified(user: User, client: Client) -> None:
    user.email_verified, user.awaiting_verification = True, False
    user.save(update_fields=["email_verified", "awaiting_verification"])
    log.record(Kind.EMAIL_VERIFIED, user, client)


def _with_password(user: User, new_password: str) -> User:
    """Return a copy of the user with another password, if that is strong enough."""
    _judge_password(user, new_password, "new_password")
    changed = copy(user)
    changed.set_password(new_password)
    return changed


def _judge(user: User, password: str, untold: Collection[str] = ()) -> None:
    """Judge a new account. Of the fields `untold`, it is not told that somebody else has them."""
    errors: dict[str, list[ValidationError]] = {}
    judges: list[Callable[[], None]] = [
        lambda: user.clean_fields(exclude=_all_but("username", "email")),
        lambda: user.validate_unique(exclude={*untold, *errors}),
        lambda: _judge_password(user, password, "password"),
    ]
    for judge in judges:
        try:
            judge()
        except ValidationError as error:
            error.update_error_dict(errors)
    if errors:
        raise ValidationError(errors)


def _judge_password(user: User, password: str, field: str) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise ValidationError({field: error.error_list}) from error


def _clean(user: User, *fields: str) -> None:
    user.full_clean(exclude=_all_but(*fields))


def _all_but(*fields: str) -> set[str]:
    return {field.name for field in User._meta.fields}.difference(fields)


@contextmanager
def _claiming(user: User, untold: Collection[str] = ()) -> Iterator[None]:
    """Run a transaction that takes a name; who loses the race for one hears the same as who comes late.

    Of the fields `untold` it is not heard that somebody else has them: the IntegrityError stays.
    """
    try:
        with transaction.atomic():
            yield
    except IntegrityError:
        user.validate_unique(exclude=untold)
        raise


def hold(user: User, refusal: ValidationError) -> None:
    """Lock the user's row until the end of the transaction; refuse if it no longer is as it was judged."""
    row = User.objects.select_for_update(no_key=True).filter(
        pk=user.pk,
        password=user.password,
        email=user.email,
        email_verified=user.email_verified,
        is_active=True,
    )
    if row.first() is None:
        raise refusal
