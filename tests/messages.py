"""Collects the strings of the source into the catalogs of translations, and compiles them. `make messages` runs this.

`tokens` has its own catalog, since it can be installed alone. The rest of the project shares one.
"""

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from babel import Locale
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

from tests import settings_project

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {"tokens/locale": ("tokens",), "locale": ("accounts", "api", "config", "templates")}
LANGUAGES = [code for code, _ in settings_project.LANGUAGES if code != settings_project.LANGUAGE_CODE]
ADOPTED = {
    "locale": {
        "rest_framework/fields.py": [
            "Ensure this field has no more than {max_length} characters.",
            "Ensure this value is greater than or equal to {min_value}.",
            "Ensure this value is less than or equal to {max_value}.",
            "Enter a valid email address.",
        ]
    }
}
"""Sentences of other packages that people read here, with our own translation: DRF's German says du."""

FAMILIAR = re.compile(r"\b([Dd]u|[Dd]ich|[Dd]ir|[Dd]ein\w*|[Gg]ib|[Ss]telle|[Ww]ähle)\b")
"""German words that are only for friends."""

KEYWORDS = {**DEFAULT_KEYWORDS, "gettext_lazy": None, "ngettext_lazy": (1, 2), "pgettext_lazy": ((1, "c"), 2)}


def gather(folder: str) -> Catalog:
    """Return every sentence in the source for the catalog in that folder."""
    gathered = Catalog()
    for source in SOURCES[folder]:
        for path in sorted((ROOT / source).rglob("*")):
            for line, sentence, comments, context in sentences_of(path):
                where = [(str(path.relative_to(ROOT)), line)]
                gathered.add(sentence, locations=where, auto_comments=comments, context=context)
    for module, adopted in ADOPTED.get(folder, {}).items():
        for sentence in adopted:
            gathered.add(sentence, locations=[(module, 1)])
    return gathered


def sentences_of(path: Path) -> Iterator[tuple[int, str | tuple[str, ...], list[str], str | None]]:
    if path.suffix in (".html", ".txt") and "templates" in path.parts:
        # Python, as far as its tokens go; not as far as its indentation does.
        code = re.sub(r"(?m)^[ \t]+", "", templatize(path.read_text()))
    elif path.suffix == ".py" and "migrations" not in path.parts:
        code = path.read_text()
    else:
        return
    yield from extract("python", BytesIO(code.encode()), KEYWORDS)


def path_of(folder: str, language: str) -> Path:
    return ROOT / folder / language / "LC_MESSAGES" / "django.po"


def read(folder: str, language: str) -> Catalog:
    with path_of(folder, language).open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalog: Catalog) -> bytes:
    file = BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def begin(language: str) -> Catalog:
    return Catalog(
        language,
        header_comment=f"# Latchkey, {Locale.parse(language).english_name}",
        project="Latchkey",
        version="0",
        msgid_bugs_address="none",
        last_translator="none",
        language_team="none",
        revision_date=datetime.now(UTC),
        fuzzy=False,
    )


def update(folder: str, language: str) -> int:
    """Update a catalog, and return how many of its sentences are not translated.

    New sentences stay empty instead of being guessed, and unused ones are removed.
    """
    path = path_of(folder, language)
    catalog = read(folder, language) if path.exists() else begin(language)
    catalog.update(gather(folder), no_fuzzy_matching=True, update_creation_date=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_po(file, catalog, width=120, sort_by_file=True, ignore_obsolete=True, include_lineno=False)
    path.with_suffix(".mo").write_bytes(compiled(catalog))
    return sum(not all(strings_of(message.string)) for message in catalog if message.id)


def strings_of(text: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    """Return the forms of a sentence: one, or the singular and the plurals."""
    return tuple(text) if isinstance(text, (tuple, list)) else (text or "",)


if __name__ == "__main__":
    for language in LANGUAGES:
        for folder in SOURCES:
            missing = update(folder, language)
            sys.stdout.write(f"{path_of(folder, language).relative_to(ROOT)}: {missing} left to translate\n")
