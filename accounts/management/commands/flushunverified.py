from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.utils import timezone

from accounts.models import User

MAX_DAYS = 36_500


class Command(BaseCommand):
    help = (
        "Deletes accounts that were registered with EMAIL_VERIFICATION=required and never verified their address. You "
        "can run it while the server runs, and interrupt it at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days",
            type=int,
            default=7,
            metavar="N",
            help="Delete accounts that are older than this many days. Defaults to 7.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Count, but delete nothing.")

    def handle(self, *, days: int, dry_run: bool, **options: Any) -> None:
        if not 1 <= days <= MAX_DAYS:
            raise CommandError(f"--days must be from 1 to {MAX_DAYS}, not {days}.")
        until = timezone.now() - timedelta(days=days)
        abandoned = User.objects.filter(awaiting_verification=True, date_joined__lt=until)
        if dry_run:
            count = abandoned.count()
        else:
            count = sum(_delete(abandoned.filter(pk=pk)) for pk in list(abandoned.values_list("pk", flat=True)))
        verb = "Would delete" if dry_run else "Deleted"
        self.stdout.write(f"{verb} {count} account{'s' * (count != 1)} whose address was never verified.")


@transaction.atomic
def _delete(row: QuerySet[User]) -> bool:
    """Delete the account, unless verified meanwhile or needed by other data; return whether it was deleted."""
    user = row.select_for_update(no_key=True).first()
    if user is None:
        return False
    try:
        with transaction.atomic():
            user.delete()
    except (ProtectedError, RestrictedError, IntegrityError):
        return False  # other data depends on it
    return True
