"""Limits on guessing: exact under parallel tries against any number of processes, and bounded in size.

Each limit is a leaky bucket in a row of the database, filled by one atomic statement, before the guess is checked. A
keyed hash finds the row. So the table holds no name, nobody can aim at somebody else's row, and there are never more
than SLOTS rows.
"""

from contextlib import suppress
from functools import partial
from ipaddress import IPv6Address, ip_address
from math import ceil
from time import time

from django.db import connections, router
from django.utils.crypto import salted_hmac

from ..conf import conf
from ..exceptions import TooManyTries
from ..models import Bucket
from .outages import retried
from .outlasting import outlast

SLOTS = 2**20

# Adds one interval, unless the bucket is full; a bucket that has drained starts from now.
FILL = """
INSERT INTO latchkey_bucket (slot, empty_at) VALUES (%s, %s)
ON CONFLICT (slot) DO UPDATE
SET empty_at = CASE WHEN latchkey_bucket.empty_at > %s THEN latchkey_bucket.empty_at ELSE %s END + %s
WHERE latchkey_bucket.empty_at <= %s
"""


@retried
def spend(limit: str, *key: str) -> None:
    """Take one of the tries that the limit allows for that key.

    Raises TooManyTries, which says after how many seconds there is another one.
    """
    if not conf.throttling:
        return
    tries, interval = conf.limits[limit]
    slot, room = _slot(limit, key), (tries - 1) * interval
    while True:
        now = time()
        with connections[_db()].cursor() as cursor:
            cursor.execute(FILL, [slot, now + interval, now, now, interval, now + room])
            if cursor.rowcount:
                outlast(partial(_spend_again, limit, *key), _db())
                return
        empty_at = Bucket.objects.using(_db()).filter(slot=slot).values_list("empty_at", flat=True).first() or 0
        now = time()
        full = now + tries * interval
        if empty_at > full:
            # A wrong clock or a wider limit filled it this far. Left alone, it would refuse tries for as long as that
            # clock was ahead.
            Bucket.objects.using(_db()).filter(slot=slot, empty_at__gt=full).update(empty_at=full)
            raise TooManyTries(ceil(interval))
        if empty_at > now + room:
            raise TooManyTries(max(ceil(empty_at - now - room), 1))
        # There is room: this try read the clock earlier than a parallel one, but was written after it.


def _spend_again(limit: str, *key: str) -> None:
    with suppress(TooManyTries):
        spend(limit, *key)


def is_spent(limit: str, *key: str) -> bool:
    """Return whether there is no try left, without taking one."""
    if not conf.throttling:
        return False
    tries, interval = conf.limits[limit]
    full = Bucket.objects.using(_db()).filter(slot=_slot(limit, key), empty_at__gt=time() + (tries - 1) * interval)
    return full.exists()


@retried
def pretend(*key: str) -> None:
    """Write a row that limits nothing, so that this case takes as long as one that writes."""
    slot, now = _slot("pretend", key), time()
    with connections[_db()].cursor() as cursor:
        cursor.execute(FILL, [slot, now, now, now, 0.0, now])


@retried
def clear(*buckets: tuple[str, ...]) -> None:
    """Give back all tries: each bucket is a limit and its key."""
    if conf.throttling:
        Bucket.objects.using(_db()).filter(slot__in=[_slot(limit, key) for limit, *key in buckets]).update(empty_at=0)


def network(address: str | None) -> str:
    """Return the network that an address counts as. With IPv6, one client has 2**64 addresses."""
    if address is None:
        return ""
    ip = ip_address(address)
    return str(IPv6Address(int(ip) >> 64 << 64)) if isinstance(ip, IPv6Address) else str(ip)


def _slot(limit: str, key: tuple[str, ...] | list[str]) -> int:
    digest = salted_hmac(f"latchkey.limits.{limit}", "\0".join(key), algorithm="sha256").digest()
    return int.from_bytes(digest[:8], "big") % SLOTS


def _db() -> str:
    return router.db_for_write(Bucket)
