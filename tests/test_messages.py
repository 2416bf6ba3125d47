"""Compares the translations with the source: every sentence is marked, collected, translated and compiled."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog, Message
from django.template.base import Lexer, TokenType

from tests.messages import FAMILIAR, LANGUAGES, ROOT, SOURCES, compiled, gather, path_of, read, strings_of

CATALOGS = [(folder, language) for folder in SOURCES for language in LANGUAGES]
FOLDERS = sorted({source for sources in SOURCES.values() for source in sources})

every_catalog = pytest.mark.parametrize(("folder", "language"), CATALOGS)


def sentences(catalog: Catalog) -> dict[tuple[str | None, tuple[str, ...]], Message]:
    return {(message.context, strings_of(message.id)): message for message in catalog if message.id}


@pytest.mark.parametrize("folder", SOURCES)
def test_source_has_sentences(folder: str) -> None:
    assert len(sentences(gather(folder))) > 50


@every_catalog
def test_catalog_has_every_sentence_of_the_source_and_no_other(folder: str, language: str) -> None:
    found, kept = sentences(gather(folder)).keys(), sentences(read(folder, language)).keys()
    assert (found - kept, kept - found) == (set(), set()), "make messages brings the catalogs up to date"


@every_catalog
def test_every_sentence_is_translated(folder: str, language: str) -> None:
    catalog = read(folder, language)
    kept = sentences(catalog).values()
    assert [message.id for message in kept if not all(strings_of(message.string))] == []
    assert [message.id for message in kept if message.fuzzy] == []
    assert [message.id for message in kept if isinstance(message.id, tuple) != isinstance(message.string, tuple)] == []
    assert [message.id for message, errors in catalog.check() if errors] == []


@every_catalog
def test_translation_keeps_placeholders_and_punctuation(folder: str, language: str) -> None:
    for message in sentences(read(folder, language)).values():
        for original, translated in zip(strings_of(message.id), strings_of(message.string), strict=True):
            assert holes(translated) == holes(original)
            assert re.findall(r"[.:?!…]\s*$", translated) == re.findall(r"[.:?!…]\s*$", original), original


def holes(sentence: str) -> Counter[str]:
    return Counter(re.findall(r"%\(\w+\)[a-z]|%[a-z]|\{\w+\}", sentence))


@every_catalog
def test_compiled_catalogs_are_up_to_date(folder: str, language: str) -> None:
    mo = path_of(folder, language).with_suffix(".mo")
    assert mo.read_bytes() == compiled(read(folder, language)), "make messages compiles the catalogs"


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogs_agree_on_shared_sentences(language: str) -> None:
    translations: dict[Any, Any] = {}
    for folder in SOURCES:
        for key, message in sentences(read(folder, language)).items():
            assert translations.setdefault(key, message.string) == message.string


def test_german_is_polite() -> None:
    for folder in SOURCES:
        for message in read(folder, "de"):
            assert not FAMILIAR.search(" ".join(strings_of(message.string)))


# Strings that must be translatable


NOT_A_WORD = {"Latchkey", "latchkey.js", "GET", "DELETE", "OPTIONS"}


class Shown(HTMLParser):
    """The untranslated words of a template: between tags, and in attributes that people read or hear."""

    READ = {"alt", "aria-label", "label", "placeholder", "title"}
    CODE = {"code", "script", "style"}

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside += [tag] if tag in self.CODE else []
        self.words += [word for name, value in attrs if name in self.READ for word in (value or "").split()]

    def handle_endtag(self, tag: str) -> None:
        self.inside = [code for code in self.inside if code != tag]

    def handle_data(self, data: str) -> None:
        self.words += [] if self.inside else data.split()


def unmarked_in_template(source: str) -> list[str]:
    shown, is_marked = Shown(), False
    kept = []
    for token in Lexer(source).tokenize():
        if token.token_type == TokenType.BLOCK:
            is_marked = token.contents.startswith("blocktranslate") or (
                is_marked and token.contents.startswith("plural")
            )
        kept.append(token.contents if token.token_type == TokenType.TEXT and not is_marked else "")
    shown.feed("".join(kept))
    return [word for word in shown.words if re.search("[A-Za-z]{2}", word) and word not in NOT_A_WORD]


TEMPLATES = [path for folder in FOLDERS for form in ("html", "txt") for path in (ROOT / folder).rglob(f"*.{form}")]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_templates_mark_every_word_for_translation(path: Path) -> None:
    assert unmarked_in_template(path.read_text()) == []


SHOWN_BY = {"ValidationError", "PermissionDenied", "NotFound", "AuthenticationFailed", "ParseError", "Throttled"}
SHOWN_BY |= {"message_user", "log_change", "log_actions", "HttpResponse"}
SHOWN_AS = {"label", "help_text", "verbose_name", "verbose_name_plural", "description", "search_help_text"}
SHOWN_AS |= {"default_detail", "message", "title", "about"}


def unmarked_in_python(tree: ast.AST) -> Iterator[str]:
    """Yield the texts that people read without gettext, with the names of the calls that show them."""
    for node in ast.walk(tree):
        shown: list[ast.expr] = []
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                shown += node.args if name in SHOWN_BY else []
                shown += [keyword.value for keyword in node.keywords if keyword.arg in SHOWN_AS]
            case ast.Assign(targets=[ast.Name(id=name)]) if name in SHOWN_AS:
                shown.append(node.value)
        for value in shown:
            if isinstance(value, (ast.Constant, ast.JoinedStr)) and re.search("[a-z] [a-z]", ast.unparse(value)):
                yield ast.unparse(value)


MODULES = [
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    # The schema is for programs, and so are commands, which speak the language of Django's own.
    if not {"migrations", "management"} & {*path.parts} and path.name != "responses.py"
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_mark_every_sentence_for_translation(path: Path) -> None:
    assert list(unmarked_in_python(ast.parse(path.read_text()))) == []


SCRIPTS = [path for folder in ("static", "api/static") for path in (ROOT / folder).rglob("*.js")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_contain_no_sentences(path: Path) -> None:
    """A script's texts are in its page, where they can be translated."""
    code = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*", "", path.read_text(), flags=re.DOTALL)
    strings = [found[1] for found in re.finditer(r"""["'`]((?:[^"'`\\\n]|\\.)*)["'`]""", code)]
    assert [text for text in strings if re.search(r"^\w+ \w+|[a-z] [a-z]+ [a-z]", text) and text != "use strict"] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<p>Bare words</p>", ["Bare", "words"]),
        ('<p>{% translate "Marked" %} {{ variable }}</p>', []),
        ("{% blocktranslate %}Marked{% endblocktranslate %} bare", ["bare"]),
        ("{% blocktranslate count n=n %}One{% plural %}More{% endblocktranslate %}", []),
        ('<img alt="Shown" class="not-shown"><code>code</code>', ["Shown"]),
    ],
)
def test_unmarked_words_are_found(source: str, words: list[str]) -> None:
    assert unmarked_in_template(source) == words


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('raise ValidationError("It is wrong.")', 1),
        ('raise ValidationError(_("It is wrong."), "wrong")', 0),
        ('raise exceptions.NotFound(f"There is no {thing} here")', 1),
        ('default_detail = "It is wrong."', 1),
        ('CharField(help_text="A help text")', 1),
        ('logger.warning("It is wrong.")', 0),
    ],
)
def test_unmarked_sentences_are_found(source: str, count: int) -> None:
    assert len(list(unmarked_in_python(ast.parse(source)))) == count
