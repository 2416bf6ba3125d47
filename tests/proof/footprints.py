"""What an SQL statement touches. Two statements that touch different things have the same effect in either order.

At READ COMMITTED a statement sees what was committed before it, and waits for the row locks of others. A table stands
for all of its rows here, so two statements may seem to meet although they don't; never the reverse.
"""

from dataclasses import dataclass, field, replace
from functools import reduce

from tests.sql import Part, parts

SHARE, HOLD, TAKE = "share", "hold", "take"
"""The strengths of a lock: of a row that a new row refers to; for an update; for a deletion."""

CONFLICTS = {(SHARE, TAKE), (TAKE, SHARE), (HOLD, HOLD), (HOLD, TAKE), (TAKE, HOLD), (TAKE, TAKE)}

REFERRED = "accounts_user"
"""The table to which rows of the others refer."""


@dataclass(frozen=True)
class Footprint:
    reads: frozenset[str] = frozenset()
    """The tables whose committed rows decide what the statement does."""

    locks: frozenset[tuple[str, str]] = frozenset()
    """The tables in which it takes row locks of that strength, or releases them by ending."""

    publishes: frozenset[str] = frozenset()
    """The tables whose changes others see after it."""

    def __or__(self, other: "Footprint") -> "Footprint":
        return Footprint(self.reads | other.reads, self.locks | other.locks, self.publishes | other.publishes)

    def meets(self, other: "Footprint") -> bool:
        """Return whether the order of the two may matter."""
        return bool(
            self.publishes & other.reads
            or other.publishes & self.reads
            or any(
                table == another and (strength, weight) in CONFLICTS
                for table, strength in self.locks
                for another, weight in other.locks
            )
        )


@dataclass
class Transaction:
    """What one connection's transaction has touched so far."""

    footprint: Footprint = field(default_factory=Footprint)
    written: frozenset[str] = frozenset()

    def add(self, sql: str, *, within: bool) -> Footprint:
        """Return what the statement touches, `within` a transaction or as its own transaction."""
        alone = reduce(Footprint.__or__, map(_alone, parts(sql)))
        if not within:
            return alone
        self.footprint = replace(self.footprint, locks=self.footprint.locks | alone.locks)
        self.written |= alone.publishes
        return replace(alone, publishes=frozenset())

    def end(self) -> Footprint:
        """Return what COMMIT or ROLLBACK touches: it publishes changes and releases locks."""
        ended = replace(self.footprint, publishes=self.written)
        self.footprint, self.written = Footprint(), frozenset()
        return ended


def _alone(part: Part) -> Footprint:
    tables, target = frozenset(part.tables), frozenset({part.target})
    held = {(table, HOLD) for table in tables} if part.locks else set()
    match part.verb:
        case "UPDATE":
            return Footprint(tables, frozenset({*held, (part.target, HOLD)}), target)
        case "DELETE":
            return Footprint(tables, frozenset({*held, (part.target, TAKE)}), target)
        case "INSERT" if part.upserts:
            return Footprint(tables, frozenset({*held, (REFERRED, SHARE), (part.target, HOLD)}), target)
        case "INSERT":
            return Footprint(tables - target, frozenset({*held, (REFERRED, SHARE)}), target)
    return Footprint(tables, frozenset(held))
