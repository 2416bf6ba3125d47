"""The feed of ended sessions, for services that verify access tokens themselves and so can't see sessions end.

If no service has credentials, the feed stays empty and costs nothing.
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
"""The reason where the user was deleted. It is not a `Reason`, since no row of the session is left."""

PRUNED_AT_ONCE = 10

POSITIONS = {
    # A row that a reader misses belongs to a transaction that was under way while it read.
    "postgresql": "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
    # One transaction writes at a time, so rows become visible in the order of their keys.
    "sqlite": "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'latchkey_ended'",
}
"""The position of a reader that reads the table now."""


CURSOR = re.compile(r"([0-9]{1,12})-([0-9]{1,19})\Z")


class Cursor(NamedTuple):
    """How far a reader has come, and when, in seconds since the epoch."""

    at: int
    position: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor. Raises ValueError if the text is not one."""
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
        """The ETag. It changes when a reader needs the page again; until then, an earlier `next` misses nothing."""
        state = f"{self.next.at // _fresh()} {[row.pk for row in self.ended]}"
        return sha256(state.encode()).hexdigest()


def publish(pks: Iterable[UUID], reason: str) -> None:
    """Write that the sessions have ended. Call it in the transaction that ends them."""
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

    A reader that continues with `next` misses no session, however late its ending is committed. It may get one twice.
    Raises CursorExpired.
    """
    using, now = _db(), times.now()
    seconds = int(now.timestamp())
    # Read before the rows, so that an ending that is committed in between is sent twice rather than never.
    position = _position(using)
    rows = Ended.objects.using(using).filter(at__gt=now - _life())
    if after is not None:
        # A position ahead of this one comes from a database that was since replaced by a backup.
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
    """Return the rows that the feed no longer lists: every access token of their sessions has expired."""
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
    # Rows that another transaction is pruning are skipped, so none waits for another.
    oldest = past().order_by("pk").select_for_update(skip_locked=True).values("pk")[:count]
    Ended.objects.using(_db()).filter(pk__in=oldest).delete()


def _db() -> str:
    # In one transaction with the row that says that the session has ended.
    return router.db_for_write(Session)
