"""Counts what the proof runs, for the tables of docs/proof.md."""

import json
import os
from pathlib import Path

from django.db import connection


class Counts:
    """Writes a line of figures for each part that ran, if PROOF_FIGURES names a folder."""

    def __init__(self) -> None:
        folder = os.environ.get("PROOF_FIGURES")
        self.file = Path(folder, f"{os.getpid()}.jsonl") if folder else None

    def add(self, table: str, row: str, **figures: int) -> None:
        """Note figures for a row of a table; those of the same row are added up."""
        if self.file:
            with self.file.open("a") as lines:
                lines.write(json.dumps([table, row, connection.vendor, figures]) + "\n")
