from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts.mail import outbox


class Command(BaseCommand):
    help = (
        "Sends queued emails until stopped. The server does this itself unless "
        "MAIL_WORKER is set to command; running both does no harm."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="Send what is due, then exit. For use with a scheduler."
        )

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        if once:
            outbox.deliver()
            return
        try:
            outbox.Worker().run()
        except KeyboardInterrupt:
            self.stderr.write("Stopped.")
