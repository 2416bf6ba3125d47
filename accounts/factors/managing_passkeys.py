"""What owners do with their passkeys: add, rename and remove them."""

import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tokens.domain import events, sessions
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried
from tokens.models import Reason, Session

from .. import kinds
from ..models import Passkey, User
from ..preconditions import lock_unchanged
from . import ceremonies, challenges, passkeys, registry, second_factor
from .ceremonies import CeremonyRefused
from .challenges import REGISTER

logger = logging.getLogger(__name__)

MOST = 20
"""The most passkeys of one user."""


class TooManyPasskeys(Exception):
    code = "too_many_passkeys"
    message = gettext_lazy("You have reached the maximum number of passkeys. Remove one first.")


class LastWayIn(Exception):
    """Without this passkey, the owner could no longer sign in."""

    code = "last_way_in"
    message = gettext_lazy("This passkey is your only way to sign in. Set a password or add another passkey first.")


def registration_options(session: Session) -> Mapping[str, Any]:
    """Return the challenge and the options for a new passkey.

    Raises EmailNotVerified or TooManyPasskeys.
    """
    user = session.user
    second_factor.check_address(user)
    if user.passkeys.count() >= MOST:
        raise TooManyPasskeys
    challenge = challenges.issue(REGISTER, sub=str(user.pk), sid=str(session.pk)).text
    handle, name = bytes(user.passkey_handle), user.get_username()
    asked = ceremonies.creation_options(
        passkeys.party(), challenge, handle=handle, name=name, known=passkeys.descriptors(user)
    )
    return {"challenge": challenge, "publicKey": asked}


@retried
def register(
    session: Session,
    challenge: str,
    credential: Mapping[str, Any],
    name: str = "",
    client: Client = UNKNOWN,
    *,
    end_others: bool = False,
) -> tuple[Passkey, list[str] | None]:
    """Add the passkey and, if asked, end the user's other sessions.

    Return it and, if it is the account's only second factor, the recovery codes.
    Raises EmailNotVerified, ChallengeNotValid, TooManyPasskeys or, by field, a ValidationError.
    """
    user = session.user
    second_factor.check_address(user)
    challenges.read(challenge, REGISTER, sub=str(user.pk), sid=str(session.pk))
    refused = ValidationError(
        {passkeys.FIELD: ValidationError(_("This passkey could not be added."), "invalid_passkey")}
    )
    try:
        new = ceremonies.register(passkeys.party(), challenge, credential)
    except CeremonyRefused as error:
        logger.info("A passkey was not added: %s", error)
        raise refused from error
    passkey = Passkey(user=user, **vars(new), name=name or _default_name(user))
    try:
        with transaction.atomic():
            lock_unchanged(user, refused)
            others = user.passkeys.count()
            if others >= MOST:
                raise TooManyPasskeys
            passkey.save(force_insert=True)
            events.announce(kinds.PASSKEY_ADDED, user, client, session)
            if end_others:
                sessions.revoke_others(session, Reason.REVOKED, client, user)
            return passkey, None if others else registry.joined(user, passkeys)
    except IntegrityError as error:
        raise refused from error  # the credential is registered already


def rename(user: User, pk: Any, name: str) -> Passkey | None:
    """Rename the passkey and return it; None if the user has none of that id."""
    passkey: Passkey | None = user.passkeys.filter(pk=pk).first()
    if passkey:
        passkey.name = name
        passkey.save(update_fields=["name"])
    return passkey


@retried
def drop(session: Session, pk: Any, client: Client = UNKNOWN) -> bool:
    """Remove the passkey; return whether the user had it. Raises LastWayIn."""
    user = session.user
    with transaction.atomic():
        held = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if not held.has_usable_password() and not held.passkeys.exclude(pk=pk).exists():
            raise LastWayIn
        deleted, __ = held.passkeys.filter(pk=pk).delete()
        if not deleted:
            return False
        events.announce(kinds.PASSKEY_REMOVED, user, client, session)
        if not held.passkeys.exists() and registry.left(user, passkeys):
            events.announce(kinds.SECOND_FACTOR_REMOVED, user, client, session)
    return True


def _default_name(user: User) -> str:
    return _("Passkey %(number)d") % {"number": user.passkeys.count() + 1}
