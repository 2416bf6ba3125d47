"""Deleting the account."""

from copy import copy

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, RestrictedError

from tokens.domain import events
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried
from tokens.domain.signing_in import Answer
from tokens.models import Session

from .. import kinds
from ..factors import second_factor
from ..models import User
from ..preconditions import WrongPassword, lock_unchanged


def delete_account(session: Session, current_password: str | None, answer: Answer, client: Client = UNKNOWN) -> None:
    """Delete the user with all sessions and the log. One line of the logger stays.

    A user with a second factor has to give it. Raises AccountInUse, and as `second_factor.prove` does.
    """
    second_factor.prove(session, current_password, answer, client)
    _delete(session.user, client)


class AccountInUse(Exception):
    """Other data of the deployment protects the account's row."""


@retried
def _delete(user: User, client: Client) -> None:
    try:
        with transaction.atomic():
            lock_unchanged(user, WrongPassword())
            events.announce(kinds.ACCOUNT_DELETED, user, client)
            copy(user).delete()  # a copy, since the deletion clears its key, and may be tried again
    except (ProtectedError, RestrictedError, IntegrityError) as error:
        # An IntegrityError: the database protects a row that Django does not know of.
        raise AccountInUse from error
