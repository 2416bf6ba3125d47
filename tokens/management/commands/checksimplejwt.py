from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from .. import moving


class Command(BaseCommand):
    help = (
        "Lists what you still have to change in the project by hand to move from SimpleJWT. The exit status is 0 if "
        "nothing is left."
    )
    # It has to run in projects that are half migrated.
    requires_system_checks: Any = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "folder",
            nargs="?",
            help="The folder of the project's Python files. Defaults to BASE_DIR, or the current folder.",
        )

    def handle(self, *, folder: str | None, **options: Any) -> None:
        root = Path(folder or getattr(settings, "BASE_DIR", None) or ".").resolve()
        if not root.is_dir():
            raise CommandError(f"{root} is not a folder.")
        found = moving.findings(root)
        for finding in found:
            self.stdout.write(str(finding))
        if found:
            raise CommandError(f"{len(found)} left to change." if len(found) > 1 else "1 left to change.")
        self.stdout.write("Nothing is left to change.")
