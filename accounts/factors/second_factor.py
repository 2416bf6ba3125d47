"""The second factor: time-based codes (RFC 6238), and recovery codes for when the device is lost.

Every code works once, in parallel too: one statement takes it, and whoever changed no row came too late. Tries are
counted by account, whatever they are for, before the code is judged. Whatever is refused is a ValidationError.
"""

import hashlib
import logging
from base64 import b32encode
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from secrets import token_bytes
from time import time
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext_lazy as _

from tokens.domain import limits, log, sessions
from tokens.domain.outages import retried
from tokens.domain.sessions import PASSWORD, UNKNOWN, Client
from tokens.exceptions import SecondFactorRequired
from tokens.models import Kind, Session

from ..holding import WrongPassword, hold
from ..mail import notices
from ..models import MailKind, RecoveryCode, SecondFactor, User
from . import encryption

logger = logging.getLogger(__name__)

# What authenticator apps take for granted.
DIGITS = 6
STEP = 30  # seconds
SECRET_LENGTH = 20  # bytes (RFC 4226, section 4)

DRIFT = 1
"""How many steps the device's clock may be ahead or behind (RFC 6238, section 5.2)."""

CODE_LENGTH = 100
"""Characters that somebody may type, with spaces and hyphens between."""

RECOVERY_CODES = 10
RECOVERY_CODE_LENGTH = 15  # bytes

CHALLENGE_LIFETIME = timedelta(minutes=5)
SALT = __name__

OTP = (*PASSWORD, "otp")
RECOVERED = (*PASSWORD, "mfa")
"""RFC 8176 has no word for a recovery code: more than one factor it was."""


class CodeNotValid(ValidationError):
    text = _("The code is wrong or was used before.")

    def __init__(self) -> None:
        super().__init__({"code": ValidationError(self.text, "invalid_code")})


class ChallengeNotValid(ValidationError):
    """It is no challenge of ours, or has expired, or the password or the second factor was changed since."""

    text = _("That took too long, or something has changed since. Sign in with your password again.")

    def __init__(self) -> None:
        super().__init__(self.text, "invalid_challenge")


def enabled(user: User) -> SecondFactor | None:
    """Return the user's second factor, unless there is none or it was never confirmed."""
    factor: SecondFactor | None = getattr(user, "second_factor", None)
    return factor if factor and factor.enabled_at else None


# At login


def demand(user: User, remembered: bool) -> str | None:
    """Return the challenge that has to be answered with a code, if the user has a second factor.

    It says that the password was right, and is good for a few minutes: until then any number of codes may be tried with
    it, as far as the limits go. It also says whether the session to come is to be remembered, so that no client can
    forget that on the way.
    """
    factor = enabled(user)
    return signing.dumps([str(factor.pk), _fingerprint(user), remembered], salt=SALT) if factor else None


def answer(challenge: str, code: str, client: Client = UNKNOWN) -> tuple[User, Sequence[str], bool]:
    """Return whose challenge it was, if the code is right, how that user has signed in (RFC 8176), and whether the
    session is to be remembered.

    Raises ChallengeNotValid, CodeNotValid or TooManyTries.
    """
    try:
        pk, fingerprint, remembered = signing.loads(challenge, salt=SALT, max_age=CHALLENGE_LIFETIME)
        factor = SecondFactor.objects.select_related("user").get(pk=pk, user__is_active=True)
    except (signing.BadSignature, ValueError, SecondFactor.DoesNotExist) as error:
        # A ValueError: a server of another version has issued it, while this one was updated.
        raise ChallengeNotValid from error
    if fingerprint != _fingerprint(factor.user):
        raise ChallengeNotValid
    return factor.user, _use(factor, code, client), remembered


def sign_in(challenge: str, code: str, client: Client = UNKNOWN) -> Session:
    """Answer the challenge and start the session. Raises NoActiveAccount as well."""
    user, amr, remembered = answer(challenge, code, client)
    return sessions.start(user, client, amr, remembered=remembered)


# By the owner, who is signed in


def reauthenticate(session: Session, code: str, client: Client = UNKNOWN) -> None:
    """Renew the sign-in of the session's user, whose password has been judged; a second factor takes a code as well.

    Raises TokenRevoked if the session has ended meanwhile.
    """
    user, factor = session.user, enabled(session.user)
    amr = _use(factor, code, client) if factor else PASSWORD
    with transaction.atomic():
        hold(user, WrongPassword())
        sessions.reauthenticate(session, client, amr)


@retried
def enrol(session: Session) -> tuple[str, str]:
    """Give the session's user, whose password has been judged, a secret; return it in base32, and as an otpauth URI.

    It takes the place of one that was never confirmed.
    """
    user, secret = session.user, token_bytes(SECRET_LENGTH)
    with transaction.atomic():
        hold(user, WrongPassword())
        if SecondFactor.objects.filter(user=user).exclude(enabled_at=None).exists():
            raise ValidationError(_("You have a second factor. Remove it first."), "second_factor_enabled")
        SecondFactor.objects.filter(user=user).delete()
        SecondFactor.objects.create(user=user, secret=encryption.encrypt(secret))
    issuer = urlsplit(settings.PUBLIC_URL).hostname
    return b32encode(secret).decode(), _totp(secret).get_provisioning_uri(user.get_username(), issuer)


def confirm(session: Session, code: str, client: Client = UNKNOWN) -> list[str]:
    """Enable the second factor, since its codes are known; return the recovery codes."""
    user, refused = session.user, ValidationError(_("There is nothing to confirm. Begin anew."), "nothing_to_confirm")
    factor = SecondFactor.objects.filter(user=user, enabled_at=None).first()
    if factor is None:
        raise refused
    bucket = _spend(factor)
    step = _step_of(factor, _as_issued(code))
    if step is None:
        raise CodeNotValid
    limits.clear(bucket)
    with transaction.atomic():
        hold(user, refused)
        pending = SecondFactor.objects.filter(pk=factor.pk, enabled_at=None)
        if not pending.update(enabled_at=timezone.now(), last_step=step):
            raise refused
        log.record(Kind.SECOND_FACTOR_ENABLED, user, client, session)
        notices.queue(MailKind.SECOND_FACTOR_ENABLED, user.email, client)
        return _issue_recovery_codes(factor)


def renew_recovery_codes(session: Session, code: str, client: Client = UNKNOWN) -> list[str]:
    """Replace the recovery codes; the password has been judged."""
    factor = _judge(session, code, client)
    with transaction.atomic():
        hold(session.user, WrongPassword())
        if not SecondFactor.objects.filter(pk=factor.pk).exists():
            raise _nothing_enabled()
        factor.recovery_codes.all().delete()
        log.record(Kind.RECOVERY_CODES_RENEWED, session.user, client, session)
        notices.queue(MailKind.RECOVERY_CODES_RENEWED, session.user.email, client)
        return _issue_recovery_codes(factor)


def remove(session: Session, code: str, client: Client = UNKNOWN) -> None:
    """Remove the second factor; the password has been judged."""
    _judge(session, code, client)
    with transaction.atomic():
        hold(session.user, WrongPassword())
        if not _delete(session.user, client, session):
            raise _nothing_enabled()


# By staff


@retried
def take_away(user: User, client: Client = UNKNOWN) -> bool:
    """Remove the second factor of somebody who can't do it any more; return whether there was one."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
        return _delete(user, client)


# What a code is


def _judge(session: Session, code: str, client: Client) -> SecondFactor:
    """Return the second factor of the session's user, if the code is right."""
    factor = enabled(session.user)
    if factor is None:
        raise _nothing_enabled()
    _use(factor, code, client)
    return factor


def _use(factor: SecondFactor, code: str, client: Client) -> Sequence[str]:
    """Use a code up, of either kind; return how one has signed in with it. Raises CodeNotValid or TooManyTries."""
    if not code:
        raise ValidationError({"code": ValidationError(SecondFactorRequired.message, SecondFactorRequired.code)})
    bucket, code = _spend(factor), _as_issued(code)
    if _use_time_step(factor, code):
        amr: Sequence[str] = OTP
    elif _use_recovery_code(factor, code, client):
        amr = RECOVERED
    else:
        with suppress(IntegrityError):  # the user was deleted in this moment
            log.record(Kind.SECOND_FACTOR_FAILED, factor.user, client)
        raise CodeNotValid
    limits.clear(bucket)
    return amr


@retried
def _use_time_step(factor: SecondFactor, code: str) -> bool:
    step = _step_of(factor, code)
    if step is None:
        return False
    return bool(SecondFactor.objects.filter(pk=factor.pk, last_step__lt=step).update(last_step=step))


@retried
def _use_recovery_code(factor: SecondFactor, code: str, client: Client) -> bool:
    with transaction.atomic():
        used, __ = RecoveryCode.objects.filter(factor=factor, digest=_digest(code)).delete()
        if used:
            log.record(Kind.RECOVERY_CODE_USED, factor.user, client)
            notices.queue(MailKind.RECOVERY_CODE_USED, factor.user.email, client)
    return bool(used)


def _step_of(factor: SecondFactor, code: str) -> int | None:
    """Return the time step whose code that is, if that step is near enough."""
    try:
        totp = _totp(encryption.decrypt(factor.secret))
    except encryption.Undecipherable:
        logger.error("The second factor %s can't be decrypted: a key was taken out too early.", factor.pk)  # noqa: TRY400
        return None
    now = int(time()) // STEP
    near = range(now - DRIFT, now + DRIFT + 1)
    # The last one, so that a code that two steps share is used up with both.
    return max((step for step in near if constant_time_compare(totp.generate(step * STEP), code)), default=None)


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, DIGITS, SHA1(), STEP)  # noqa: S303 - HMAC-SHA1 is what every app knows (RFC 6238, section 1.2)


def _issue_recovery_codes(factor: SecondFactor) -> list[str]:
    codes = [b32encode(token_bytes(RECOVERY_CODE_LENGTH)).decode().lower() for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(RecoveryCode(factor=factor, digest=_digest(code)) for code in codes)
    return ["-".join(code[start : start + 6] for start in range(0, len(code), 6)) for code in codes]


def _as_issued(code: str) -> str:
    """Return the code without what people put between its groups, and in small letters."""
    return "".join(code.split()).replace("-", "").lower()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(user: User) -> str:
    """Return what changes with the password. It is shown to nobody who does not know the password."""
    return _digest(user.password)


def _nothing_enabled() -> ValidationError:
    return ValidationError(_("You have no second factor."), "no_second_factor")


def _spend(factor: SecondFactor) -> tuple[str, str]:
    bucket = ("code", str(factor.user_id))
    limits.spend(*bucket)
    return bucket


def _delete(user: User, client: Client, session: Session | None = None) -> bool:
    """Remove the user's second factor, with its recovery codes, and log it; return whether there was one."""
    __, deleted = SecondFactor.objects.filter(user=user).exclude(enabled_at=None).delete()
    if not deleted:
        return False
    log.record(Kind.SECOND_FACTOR_REMOVED, user, client, session)
    notices.queue(MailKind.SECOND_FACTOR_REMOVED, user.email, client)
    return True
