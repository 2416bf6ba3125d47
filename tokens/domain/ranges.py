"""Walks a table in ranges of its primary key. Only the last key of each range is fetched."""

from collections.abc import Iterator
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import QuerySet

Rows = TypeVar("Rows", bound=QuerySet[Any])


def ranges(rows: Rows, size: int) -> Iterator[tuple[UUID | None, Rows]]:
    """Yield the rows in the order of the key, `size` or fewer at a time, each time after the range's last key.

    The last range has no end: None. Each range begins where the one before ended, even if those rows are gone.
    """
    ahead = rows.order_by("pk")
    while (last := ahead.values_list("pk", flat=True)[size - 1 : size].first()) is not None:
        yield last, ahead.filter(pk__lte=last)
        ahead = rows.order_by("pk").filter(pk__gt=last)
    yield None, ahead
