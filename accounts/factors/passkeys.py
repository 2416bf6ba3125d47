"""Passkeys (WebAuthn Level 3), as a sign-in of their own or as a second factor after a password."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tokens.domain import events, sessions, signing_in
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried
from tokens.domain.sessions import PASSWORD, Claims
from tokens.domain.signing_in import Answer, ClaimsFor, Terms
from tokens.exceptions import AnswerNotValid, ChallengeNotValid, NoActiveAccount
from tokens.models import Session

from .. import kinds
from ..models import Passkey, User
from . import ceremonies, challenges
from .ceremonies import Assertion, CeremonyRefused, RelyingParty
from .challenges import LOGIN, RENEW, Challenge

logger = logging.getLogger(__name__)

METHOD = "passkey"
FIELD = "credential"

AFTER_PASSWORD = (*PASSWORD, "pop")
ALONE = ("pop", "mfa")
"""RFC 8176: proof of possession. With user verification, a passkey is more than one factor."""


class PasskeyNotValid(AnswerNotValid):
    field = FIELD
    code = "invalid_passkey"
    by_field = False
    message = _("That passkey did not work. Try again, or sign in another way.")


class UnknownPasskey(PasskeyNotValid):
    code = "unknown_passkey"
    message = _("No account here uses this passkey. It may have been removed.")


NOT_VALID: type[AnswerNotValid] = PasskeyNotValid


class NoPasskey(Exception):
    code = "no_passkey"
    message = _("You have no passkey.")


def party() -> RelyingParty:
    """Return the relying party of this deployment."""
    return RelyingParty(settings.PASSKEY_RP_ID, settings.PASSKEY_RP_NAME, settings.PASSKEY_ORIGINS)


# As a second factor


def usable() -> bool:
    """Return whether this deployment has passkeys. It has none if the host of its public URL is an IP address."""
    return bool(settings.PASSKEYS and settings.PASSKEY_RP_ID)


def since(user: User) -> datetime | None:
    known: dict[str, datetime | None] = vars(user)
    if "passkeys_since" in known:  # a login fetches it with the user
        return known["passkeys_since"]
    first = user.passkeys.order_by("created_at").first()
    return first.created_at if first else None


def options(user: User, challenge: str) -> Mapping[str, Any]:
    # A plain security key has no user verification, and here the password was given.
    asked = ceremonies.request_options(party(), challenge, allowed=descriptors(user), verification="discouraged")
    return {"publicKey": asked}


def use(user: User, answer: Answer, client: Client) -> Sequence[str] | None:
    with suppress(PasskeyNotValid):
        if "renewal" in answer:
            prove(user, answer, client)
        else:
            _verify(challenges.of_login(answer["challenge"]), answer[FIELD], client, user)
        return AFTER_PASSWORD
    return None


def remove(user: User) -> bool:
    deleted, __ = Passkey.objects.filter(user=user).delete()
    return bool(deleted)


def descriptors(user: User) -> list[dict[str, Any]]:
    """Return the user's passkeys as options name them."""
    return [
        ceremonies.descriptor(bytes(passkey.credential_id), passkey.transports)
        for passkey in user.passkeys.order_by("pk")
    ]


# As a sign-in of its own


def login_options() -> Mapping[str, Any]:
    """Return the challenge and the options of a login. They are the same for everybody and name no user."""
    challenge = challenges.issue(LOGIN)
    return {"challenge": challenge.text, "publicKey": ceremonies.request_options(party(), challenge.text)}


def sign_in_with_passkey(
    challenge: str,
    credential: Mapping[str, Any],
    client: Client,
    terms: Terms,
    claims_for: ClaimsFor | None = None,
    *,
    former: Claims | None = None,
) -> Session:
    """Begin a session for the owner of the passkey. It has verified the user, so no second factor is asked for.

    `former` has the verified claims of the refresh token in the request, if there is one; its session, if alive, ends.

    Raises ChallengeNotValid, UnknownPasskey or PasskeyNotValid.
    """
    user = authenticate(challenge, credential, client)
    try:
        return signing_in.start(user, client, terms, ALONE, claims_for, former=former)
    except NoActiveAccount as error:
        raise PasskeyNotValid from error


def authenticate(challenge: str, credential: Mapping[str, Any], client: Client) -> User:
    """Return the owner of the passkey; no session begins. Raises as `sign_in_with_passkey` does."""
    user: User = _verify(challenges.read(challenge, LOGIN), credential, client, alone=True).user
    if user.awaiting_verification or not sessions.may_sign_in(user):
        raise PasskeyNotValid
    return user


# To renew a sign-in


def renewal_options(user: User) -> Mapping[str, Any]:
    """Return the challenge and the options with which a signed-in user proves a passkey. Raises NoPasskey."""
    if not since(user):
        raise NoPasskey
    challenge = challenges.issue(RENEW, sub=str(user.pk)).text
    asked = ceremonies.request_options(party(), challenge, allowed=descriptors(user))
    return {"challenge": challenge, "publicKey": asked}


def prove(user: User, answer: Answer, client: Client = UNKNOWN) -> Sequence[str]:
    """Use a passkey of a user who is signed in; return how the user has signed in (RFC 8176).

    Raises ChallengeNotValid or PasskeyNotValid.
    """
    challenge = challenges.read(answer["renewal"], RENEW, sub=str(user.pk))
    _verify(challenge, answer[FIELD], client, user, alone=True)
    return ALONE


# What a use is


def _verify(
    challenge: Challenge,
    credential: Mapping[str, Any],
    client: Client,
    user: User | None = None,
    *,
    alone: bool = False,
) -> Passkey:
    """Return the passkey that was used. Without a password it counts as two factors, so it must have verified the user.

    Raises UnknownPasskey, PasskeyNotValid or ChallengeNotValid.
    """
    try:
        credential_id = ceremonies.credential_id(credential)
    except CeremonyRefused as error:
        raise PasskeyNotValid from error
    passkey = Passkey.objects.select_related("user").filter(credential_id=credential_id).first()
    if passkey is None:
        raise UnknownPasskey if user is None else PasskeyNotValid
    try:
        used = ceremonies.use(party(), challenge.text, credential, bytes(passkey.public_key))
        _check(passkey, used, user, alone=alone)
    except CeremonyRefused as error:
        logger.info("A passkey was refused: %s", error)
        with suppress(IntegrityError):  # the user has just been deleted
            events.announce(kinds.PASSKEY_FAILED, passkey.user, client)
        raise PasskeyNotValid from error
    _take(passkey, challenge, used, client)
    return passkey


def _check(passkey: Passkey, used: Assertion, user: User | None, *, alone: bool) -> None:
    if user is not None and passkey.user_id != user.pk:
        raise CeremonyRefused("It is another user's.")
    if used.user_handle is None and user is None:
        raise CeremonyRefused("There is no user handle.")
    if used.user_handle is not None and used.user_handle != bytes(passkey.user.passkey_handle):
        raise CeremonyRefused("The user handle is another user's.")
    if used.synced != passkey.synced:
        raise CeremonyRefused("The backup eligibility has changed.")
    if alone and not used.user_verified:
        raise CeremonyRefused("The user was not verified.")


@retried
def _take(passkey: Passkey, challenge: Challenge, used: Assertion, client: Client) -> None:
    """Take the challenge and the counter in one statement. Raises ChallengeNotValid or PasskeyNotValid.

    A counter that does not grow means that the passkey was copied. A counter that is always 0 means nothing.
    """
    unanswered = Passkey.objects.filter(pk=passkey.pk, last_challenge__lt=challenge.issued_at)
    grows = Q(sign_count__lt=used.sign_count)
    if not used.sign_count:
        grows |= Q(sign_count=0)
    changes = {"last_challenge": challenge.issued_at, "last_used_at": timezone.now(), "backed_up": used.backed_up}
    if unanswered.filter(grows).update(sign_count=used.sign_count, **changes):
        return
    with transaction.atomic():
        if not unanswered.update(last_challenge=challenge.issued_at):
            raise ChallengeNotValid
        events.announce(kinds.PASSKEY_CLONED, passkey.user, client)
    raise PasskeyNotValid
