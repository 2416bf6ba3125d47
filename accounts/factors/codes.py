"""Time-based codes of an authenticator app (RFC 6238)."""

import logging
from base64 import b32encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from secrets import token_bytes
from time import time
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from tokens.domain.client import Client
from tokens.domain.outages import retried
from tokens.domain.sessions import PASSWORD
from tokens.domain.signing_in import Answer
from tokens.exceptions import AnswerNotValid

from ..models import AuthenticatorApp, User
from . import encryption
from .factor import CodeNotValid
from .spelling import as_issued

logger = logging.getLogger(__name__)

METHOD = "otp"
FIELD = "code"
NOT_VALID: type[AnswerNotValid] = CodeNotValid
AMR = (*PASSWORD, "otp")

# What authenticator apps assume.
DIGITS = 6
STEP = 30  # seconds
SECRET_LENGTH = 20  # bytes (RFC 4226, section 4)

DRIFT = 1
"""How many steps the device's clock may be ahead or behind (RFC 6238, section 5.2)."""


SKEW = 2
"""How many steps two servers' clocks may be apart."""


def usable() -> bool:
    return True


def since(user: User) -> datetime | None:
    app = _app_of(user)
    return app.enabled_at if app else None


def options(user: User, challenge: str) -> Mapping[str, Any]:
    return {}


@retried
def use(user: User, answer: Answer, client: Client) -> Sequence[str] | None:
    app = _app_of(user)
    step = _step_of(app, answer[FIELD]) if app and app.enabled_at else None
    if app is None or step is None:
        return None
    # A step further ahead was written by a wrong clock, and would lock the owner out until then.
    ahead = int(time()) // STEP + DRIFT + SKEW
    unused = AuthenticatorApp.objects.filter(Q(last_step__lt=step) | Q(last_step__gt=ahead), pk=app.pk)
    return AMR if unused.update(last_step=step) else None


def remove(user: User) -> bool:
    __, deleted = AuthenticatorApp.objects.filter(user=user).exclude(enabled_at=None).delete()
    return bool(deleted)


# Setting it up


def enrol(user: User) -> tuple[str, str]:
    """Give the user a secret; return it in base32, and as an otpauth URI. It replaces one that was never confirmed."""
    secret = token_bytes(SECRET_LENGTH)
    AuthenticatorApp.objects.filter(user=user, enabled_at=None).delete()
    AuthenticatorApp.objects.create(user=user, secret=encryption.encrypt(secret))
    issuer = urlsplit(settings.PUBLIC_URL).hostname
    return b32encode(secret).decode(), _totp(secret).get_provisioning_uri(user.get_username(), issuer)


def pending(user: User) -> AuthenticatorApp | None:
    """Return the app that the user has yet to confirm."""
    return AuthenticatorApp.objects.filter(user=user, enabled_at=None).first()


def proves(app: AuthenticatorApp, code: str) -> int | None:
    """Return the time step of the code, if the app's secret made it; that proves that the app has the secret."""
    return _step_of(app, code)


def enable(app: AuthenticatorApp, step: int) -> bool:
    """Require the app's codes from now on, and use this one up; return whether the app was yet to be confirmed."""
    row = AuthenticatorApp.objects.filter(pk=app.pk, enabled_at=None)
    return bool(row.update(enabled_at=timezone.now(), last_step=step))


# What a code is


def _app_of(user: User) -> AuthenticatorApp | None:
    app: AuthenticatorApp | None = getattr(user, "authenticator_app", None)
    return app


def _step_of(app: AuthenticatorApp, code: str) -> int | None:
    """Return the code's time step, if that step is near enough."""
    try:
        totp = _totp(encryption.decrypt(app.secret))
    except encryption.Undecipherable:
        logger.error("The second factor %s can't be decrypted. A key was removed too early.", app.pk)  # noqa: TRY400
        return None
    now, typed = int(time()) // STEP, as_issued(code)
    near = range(now - DRIFT, now + DRIFT + 1)
    # The last one, so that a code that two steps share is used up for both.
    return max((step for step in near if constant_time_compare(totp.generate(step * STEP), typed)), default=None)


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, DIGITS, SHA1(), STEP)  # noqa: S303 - HMAC-SHA1 is what every app knows (RFC 6238, section 1.2)
