import sys
from argparse import ArgumentParser
from functools import partial
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import router

from ...domain import cutoffs, sessions, users
from ...domain.devices import describe
from ...domain.ranges import ranges
from ...models import Reason, Session, SessionQuerySet, User

BATCH_SIZE = 500
"""How many sessions are revoked in one transaction."""


class Command(BaseCommand):
    help = "Immediately revokes the sessions of one user, one session, or all sessions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--user", metavar="NAME", help="Revoke the sessions of this user.")
        which.add_argument("--session", metavar="ID", help="Revoke this session. ID is the `sid` claim of its tokens.")
        which.add_argument("--all", action="store_true", dest="everybody", help="Revoke all sessions of all users.")
        parser.add_argument(
            "--noinput",
            "--no-input",
            action="store_false",
            dest="interactive",
            help="Do not ask for confirmation. Without a terminal, the command never asks.",
        )

    def handle(self, *, user: str | None, session: str | None, interactive: bool, **options: Any) -> None:
        live = Session.objects.using(router.db_for_write(Session)).live()
        # This also ends SimpleJWT's tokens that are still accepted and have no session yet.
        end_former = cutoffs.end_everybodys
        if user is not None:
            owner = users.named(user) or _hidden(live.db, user)
            chosen, whose = live.of(owner), f"of {owner.get_username()}"
            end_former = partial(cutoffs.end, owner)
        elif session is not None:
            chosen, whose = _of_id(live, session)
        else:
            chosen, whose = live, "of all users"
        count = chosen.count()
        accepts_former = cutoffs.are_kept() and session is None
        if not count and not accepts_former:
            self.stdout.write(f"Nothing to revoke: there are no active sessions {whose}.")
            return
        also = ", and all tokens from SimpleJWT" if accepts_former else ""
        self.stdout.write(f"This will revoke {_sessions(count)} {whose}{also}.")
        if interactive and sys.stdin.isatty() and not _is_confirmed():
            self.stdout.write("Nothing was revoked.")
            return
        if accepts_former:
            end_former()
        revoked = sum(len(sessions.revoke_these(some, Reason.COMMAND)) for _, some in ranges(chosen, BATCH_SIZE))
        self.stdout.write(f"Revoked {_sessions(revoked)}.")


def _hidden(using: str, name: str) -> User:
    """Return a user whom the default manager hides, and who may have sessions to revoke."""
    user = users.named(name, users.rows(using))
    if user is None:
        raise CommandError(f"User {name!r} does not exist.")
    return user


def _of_id(live: SessionQuerySet, text: str) -> tuple[SessionQuerySet, str]:
    try:
        session = Session.objects.using(live.db).select_related("user").get(pk=UUID(text))
    except (Session.DoesNotExist, ValueError):
        raise CommandError(f"Session {text!r} does not exist.") from None
    device, since = describe(session.user_agent), f"{session.created_at:%Y-%m-%d %H:%M %Z}"
    return live.filter(pk=session.pk), f"of {session.user.get_username()}, {device}, signed in {since}"


def _is_confirmed() -> bool:
    try:
        return input("Type 'yes' to continue: ") == "yes"
    except EOFError:
        return False


def _sessions(count: int) -> str:
    return "1 active session" if count == 1 else f"{count} active sessions"
