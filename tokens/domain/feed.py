"""The feed of ended sessions, for services that verify access tokens themselves and so see no session end.

It costs nothing where nobody has the credentials to read it: what has ended by then is not in it.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, NamedTuple, Self
from uuid import UUID

from django.db import connections, router
from django.db.models import QuerySet

from .. import times
from ..conf import conf
from ..exceptions import CursorExpired
from ..models import Ended, Session, TransactionId

INTERVAL = 5
"""Seconds after which a reader asks again."""

DELETED = "deleted"
"""Why a session ended whose user was deleted. No row is left to say so, so it is none of the reasons of one."""

PRUNED_AT_ONCE = 10

POSITIONS = {
    # What is committed later than a look at the table belongs to a transaction that is under way during that look.
    "postgresql": "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    # One transaction writes at a time, so rows become visible in the order of their keys.
    "sqlite": "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'latchkey_ended'",
}
"""How far a reader has come who looks at the table next."""


CURSOR = re.compile(r"([0-9]{1,12})-([0-9]{1,19})\Z")


class Cursor(NamedTuple):
    """How far a reader has come, and when, in seconds since the epoch."""

    at: int
    position: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor. Raises ValueError for what is none."""
        match = CURSOR.match(text)
        if match is None:
            raise ValueError(text)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.at}-{self.position}"


class Page(NamedTuple):
    ended: Sequence[Ended]
    next: Cursor

    @property
    def tag(self) -> str:
        """What changes when the page is worth sending again. Until then an earlier `next` misses nothing either."""
        state = f"{self.next.at // _fresh()} {[row.pk for row in self.ended]}"
        return sha256(state.encode()).hexdigest()


def tell(pks: Iterable[UUID], reason: str) -> None:
    """Write that the sessions have ended. To be called in the transaction that ends them."""
    if not is_read():
        return
    now, using = times.now(), _db()
    rows = [Ended(session=pk, at=now, reason=reason, xid=TransactionId()) for pk in pks]
    if rows:
        Ended.objects.using(using).bulk_create(rows)
        _prune(PRUNED_AT_ONCE + len(rows))


def is_read() -> bool:
    """Return whether anybody has the credentials to read the feed."""
    return bool(conf.introspection_credentials)


def read(after: Cursor | None = None) -> Page:
    """Return the sessions that ended since the cursor, or within the life of an access token, oldest first.

    A reader who goes on with `next` misses none, however late it is committed, and may be told of one again.
    Raises CursorExpired.
    """
    using, now = _db(), times.now()
    seconds = int(now.timestamp())
    # Before the rows: what is committed between the two is told twice, rather than never.
    position = _position(using)
    rows = Ended.objects.using(using).filter(at__gt=now - _life())
    if after is not None:
        # A position that is still to come is that of another database, which this one was restored over.
        if seconds - after.at > _life().total_seconds() or after.position > position:
            raise CursorExpired
        rows = (
            rows.filter(xid__gte=after.position)
            if connections[using].vendor == "postgresql"
            else rows.filter(pk__gt=after.position)
        )
    ended = list(rows.order_by("pk"))
    if after is not None and not ended and seconds - after.at < _fresh():
        return Page(ended, after)  # so that the answer stays the same
    return Page(ended, Cursor(seconds, position))


def listed() -> QuerySet[Any]:
    """Return the keys of the sessions that the feed lists."""
    return Ended.objects.using(_db()).values("session")


def past() -> QuerySet[Ended]:
    """Return what nobody is told any more: no access token of those sessions can be good."""
    return Ended.objects.using(_db()).filter(at__lte=times.now() - _life())


def _life() -> timedelta:
    return conf.access_token_lifetime + conf.leeway


def _fresh() -> int:
    """Return for how many seconds a cursor is as good as a new one."""
    return max(1, int(_life().total_seconds() / 4))


def _position(using: str) -> int:
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(POSITIONS[connection.vendor])
        position: tuple[int] = cursor.fetchone()
    return position[0]


def _prune(count: int) -> None:
    # What another transaction is pruning is left to it: nobody waits for anybody.
    oldest = past().order_by("pk").select_for_update(skip_locked=True).values("pk")[:count]
    Ended.objects.using(_db()).filter(pk__in=oldest).delete()


def _db() -> str:
    # In one transaction with the row that says that the session has ended.
    return router.db_for_write(Session)
