from argparse import ArgumentParser
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.db import router, transaction
from django.db.models import QuerySet

from ... import times
from ...conf import conf
from ...domain import feed, legacy
from ...domain.ranges import ranges
from ...models import SecurityEvent, Session, uuid7_floor

MAX_BATCH_SIZE = 100_000

EPOCH = datetime.fromtimestamp(0, UTC)
"""The earliest time that a key can hold."""


class Command(BaseCommand):
    help = (
        "Deletes expired sessions, and security events older than TOKENS_EVENT_LIFETIME. You can run it while "
        "the server runs, run it twice at once, and interrupt it at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--batch-size",
            type=int,
            default=1000,
            metavar="N",
            help="Rows per transaction. Defaults to 1000.",
        )
        parser.add_argument(
            "--keep",
            type=int,
            default=0,
            metavar="DAYS",
            help="Days to keep a session after it expires. Defaults to 0.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Count, but delete nothing.")

    def handle(self, *, batch_size: int, keep: int, dry_run: bool, verbosity: int, **options: Any) -> None:
        if not 1 <= batch_size <= MAX_BATCH_SIZE:
            raise CommandError(f"--batch-size must be from 1 to {MAX_BATCH_SIZE}, not {batch_size}.")
        if not 0 <= keep <= timedelta.max.days:
            raise CommandError(f"--keep must be a number of days, 0 or more, not {keep}.")
        self.batch_size, self.dry_run, self.verbosity = batch_size, dry_run, verbosity
        self.counts: Counter[type[Session | SecurityEvent]] = Counter()
        try:
            self.flush(Session, "expires_at", _ago(timedelta(days=keep)))
            self.flush(SecurityEvent, "created_at", _ago(conf.event_lifetime))
            for past in () if dry_run else (feed.past(), legacy.past()):
                self.flush_past(past)
        except KeyboardInterrupt:
            if self.stdout.isatty():
                self.stdout.write()  # the progress bar left its line open
            raise CommandError(f"Interrupted. {self.summary()}", returncode=130) from None
        self.stdout.write(self.summary())

    def flush(self, model: type[Session | SecurityEvent], field: str, until: datetime) -> None:
        """Delete the rows whose field is not after that time. Rows that were made later are not even read."""
        using, end = router.db_for_write(model), uuid7_floor(until + timedelta(milliseconds=1))
        rows = model._default_manager.using(using).filter(pk__lt=end)
        first = rows.order_by("pk").values_list("pk", flat=True).first()
        if first is None:
            return
        progress = Progress(self.stdout, first, end)
        for last, some in ranges(rows, self.batch_size):
            past = some.filter(**{f"{field}__lte": until})
            self.counts[model] += past.count() if self.dry_run else _delete(past, using)
            if self.verbosity:
                done = f"{self.counts[model]} {'found' if self.dry_run else 'deleted'}"
                progress.show(last or end, f"{model._meta.verbose_name_plural}, {done}")

    def flush_past(self, past: QuerySet[Any]) -> None:
        """Delete rows that are no longer needed. The output does not count them."""
        if past.exists():
            for _, some in ranges(past, self.batch_size):
                _delete(some, some.db)

    def summary(self) -> str:
        sessions, events = self.counts[Session], self.counts[SecurityEvent]
        return (
            f"{'Would delete' if self.dry_run else 'Deleted'} {sessions} expired session{'s' * (sessions != 1)} "
            f"and {events} old security event{'s' * (events != 1)}."
        )


class Progress:
    """Shows the progress along the primary key: a bar on a terminal, else a line for each tenth."""

    WIDTH = 40

    def __init__(self, out: OutputWrapper, start: UUID, end: UUID) -> None:
        self.out, self.start, self.end, self.tenths = out, start.int, end.int, 0

    def show(self, at: UUID, done: str) -> None:
        share = (at.int - self.start) / (self.end - self.start)
        if self.out.isatty():
            bar = "#" * int(share * self.WIDTH)
            self.out.write(f"\r[{bar:.<{self.WIDTH}}] {share:4.0%} of the {done}", ending="\n" if share == 1 else "")
            self.out.flush()
        elif int(share * 10) > self.tenths:
            self.tenths = int(share * 10)
            self.out.write(f"{share:4.0%} of the {done}")


def _ago(age: timedelta) -> datetime:
    try:
        return max(times.now() - age, EPOCH)
    except OverflowError:
        return EPOCH


def _delete(rows: QuerySet[Any], using: str) -> int:
    with transaction.atomic(using=using):
        # Rows that another transaction has locked are left for the next run, so neither waits.
        mine = rows.select_for_update(skip_locked=True).values("pk")
        _, deleted = rows.model._default_manager.using(using).filter(pk__in=mine).delete()
    return int(deleted.get(rows.model._meta.label, 0))
