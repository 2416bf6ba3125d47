"""Where a name and a password are judged, whatever they open: either transport, the admin."""

import unicodedata
from typing import Any

from django.contrib import auth
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.module_loading import import_string

from .conf import conf
from .domain import limits
from .exceptions import SecondFactorRequired, TooManyTries
from .http.requests import client_of
from .models import Kind, SecurityEvent


def authenticate(request: HttpRequest, username: str, password: str, *, remembered: bool = True) -> Any:
    """Return the user, or None; unknown, wrong and deactivated take the same work.

    Tries are limited for a name from one address, and for a name from all addresses together. The second limit would
    let anybody lock the owner out, so it does not hold for an address (of IPv6, a network) that the account has signed
    in from before, or in which a mailed link to reset the password was used.
    Raises TooManyTries and, only after a right password, SecondFactorRequired, whose challenge carries `remembered` to
    the session that begins with the answer.
    """
    name, client = _as_typed(username), client_of(request)
    here, everywhere = ("login", name, limits.network(client.ip_address)), ("login_anywhere", name)
    limits.spend(*here)
    try:
        limits.spend(*everywhere)
    except TooManyTries:
        if not _has_signed_in_from(client.ip_address, username):
            raise
    user = auth.authenticate(request, **{get_user_model().USERNAME_FIELD: username}, password=password)
    if user is None:
        return None
    limits.clear(here, everywhere)
    challenge = import_string(conf.second_factor)(user, remembered) if conf.second_factor else None
    if challenge is not None:
        raise SecondFactorRequired(challenge)
    return user


def confirm(request: HttpRequest, password: str) -> bool:
    """Return whether it is the password of whoever asks; a wrong one is a guess like any other, and logged as one.

    Raises TooManyTries.
    """
    user: Any = request.user
    bucket = ("password", str(user.pk))
    limits.spend(*bucket)
    if not user.check_password(password):
        user_login_failed.send(sender=__name__, credentials={"username": user.get_username()}, request=request)
        return False
    limits.clear(bucket)
    return True


def refusal(sentence: str | Promise) -> str:
    """Return what a refused login is told, whoever asks and whatever the reason."""
    return f"{str(sentence).removesuffix('.')}. {conf.login_hint}" if conf.login_hint else str(sentence)


def _as_typed(username: str) -> str:
    return unicodedata.normalize("NFKC", username).casefold()


def _has_signed_in_from(address: str | None, username: str) -> bool:
    user_model = get_user_model()
    try:
        user: Any = user_model._default_manager.get_by_natural_key(username)
    except user_model.DoesNotExist:
        user = None  # whose logins are looked for all the same, so that the work tells nothing
    proofs = (Kind.LOGIN, Kind.PASSWORD_RESET)  # the latter for an owner who gets in from nowhere else
    logins = SecurityEvent.objects.filter(user_id=user and user.pk, kind__in=proofs).order_by()
    # As the limits count them: within its network a device of IPv6 has another address each day (RFC 8981).
    return limits.network(address) in map(limits.network, logins.values_list("ip_address", flat=True).distinct())
