"""Creating an account.

Passwords are hashed before a transaction begins: hashing takes tens of milliseconds, and a transaction would keep every
other writer of SQLite waiting that long.
"""

from copy import copy

from django.db import IntegrityError

from tokens.domain import events, signing_in
from tokens.domain.client import UNKNOWN, Client
from tokens.domain.outages import retried
from tokens.domain.sessions import Claims
from tokens.domain.signing_in import Terms
from tokens.models import Session

from .. import kinds
from ..mail import composing, outbox
from ..models import MailKind, User
from .address import mail_link
from .validation import claiming, validate_account


@retried
def register(
    username: str,
    password: str,
    email: str | None = None,
    client: Client = UNKNOWN,
    terms: Terms | None = None,
    *,
    former: Claims | None = None,
) -> Session:
    """Create an account and sign in to it on those terms."""
    user = User(username=username, email=email or "")
    validate_account(user, password)
    user.set_password(password)
    with claiming(user):
        user.save(force_insert=True)
        events.announce(kinds.REGISTERED, user, client)
        mail_link(user)
        return signing_in.start(user, client, terms or Terms(), former=former)


def register_unverified(username: str, password: str, email: str, client: Client = UNKNOWN) -> None:
    """Create an account that can't be used until its address is verified. Raises TooManyTries.

    Only the mail to the address says whether it is known. If it is, the account is created without it, and so can never
    be used: the name is taken and the work is the same in either case.
    """
    user = User(username=username, email=email, awaiting_verification=True)
    validate_account(user, password, undisclosed=["email"])
    composing.spend(MailKind.VERIFY_EMAIL, user.email)
    user.set_password(password)
    is_known = User.objects.filter(email_key=user.email_key).exists()
    try:
        _enter(user, client, is_known)
    except IntegrityError:
        _enter(user, client, is_known=True)  # the address has just been taken


@retried
def _enter(user: User, client: Client, is_known: bool) -> None:
    made, mail = copy(user), MailKind.VERIFY_EMAIL
    if is_known:
        made.email, mail = "", MailKind.ALREADY_REGISTERED
    with claiming(made, undisclosed=["email"]):
        made.save(force_insert=True)
        events.announce(kinds.REGISTERED, made, client)
        outbox.queue(mail, user.email)
