from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import router, transaction

from accounts.factors import encryption
from accounts.factors.encryption import Undecipherable
from accounts.models import AuthenticatorApp
from tokens.domain.ranges import ranges

MAX_BATCH_SIZE = 100_000


class Command(BaseCommand):
    help = (
        "Re-encrypts the secrets of authenticator apps with the current SECRET_KEY. Run it before you remove an "
        "old key from SECRET_KEY_FALLBACKS. You can run it while the server runs, and interrupt it at any time. "
        "It fails if the current key can't decrypt every secret."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--batch-size",
            type=int,
            default=1000,
            metavar="N",
            help="Secrets per transaction. Defaults to 1000.",
        )
        parser.add_argument("--check", action="store_true", help="Check the secrets, but change nothing.")

    def handle(self, *, batch_size: int, check: bool, **options: Any) -> None:
        if not 1 <= batch_size <= MAX_BATCH_SIZE:
            raise CommandError(f"--batch-size must be from 1 to {MAX_BATCH_SIZE}, not {batch_size}.")
        using = router.db_for_write(AuthenticatorApp)
        factors = AuthenticatorApp.objects.using(using)
        if not check:
            renewed = 0
            for _, some in ranges(factors.all(), batch_size):
                with transaction.atomic(using=using):
                    renewed += sum(map(_renew, some))
            self.stdout.write(f"Re-encrypted {renewed} secret{'s' * (renewed != 1)}.")
        # Counted again from the rows: a server that still has the former key may have written one meanwhile.
        found = Counter(_state(factor) for _, some in ranges(factors.all(), batch_size) for factor in some)
        summary = (
            f"Secrets: {found['current']} encrypted with the current key, {found['former']} with a "
            f"former key, {found['lost']} with an unknown key."
        )
        if found["current"] < found.total():
            raise CommandError(f"{summary} Keep SECRET_KEY_FALLBACKS as it is.")
        self.stdout.write(summary)


def _renew(factor: AuthenticatorApp) -> bool:
    """Encrypt the secret again, if needed and possible; return whether it was done."""
    if _state(factor) != "former":
        return False
    # Unless the secret has changed meanwhile.
    row = AuthenticatorApp.objects.using(router.db_for_write(AuthenticatorApp)).filter(
        pk=factor.pk, secret=factor.secret
    )
    return bool(row.update(secret=encryption.encrypt(encryption.decrypt(factor.secret))))


def _state(factor: AuthenticatorApp) -> str:
    if encryption.is_current(factor.secret):
        return "current"
    try:
        encryption.decrypt(factor.secret)
    except Undecipherable:
        return "lost"
    return "former"
