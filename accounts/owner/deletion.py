"""Deleting the account."""

from copy import copy

from django.db import transaction

from tokens.domain import log
from tokens.domain.outages import retried
from tokens.domain.sessions import UNKNOWN, Client
from tokens.models import Kind

from ..holding import WrongPassword, hold
from ..models import User


@retried
def delete_account(user: User, client: Client = UNKNOWN) -> None:
    """Delete the user, whose password has been judged, with every session and the log; one line of the logger stays."""
    with transaction.atomic():
        hold(user, WrongPassword())
        log.record(Kind.ACCOUNT_DELETED, user, client)
        copy(user).delete()  # which takes the key away, although it may have to be tried again
