import unicodedata

import pytest
from django.core.exceptions import ValidationError

from accounts.names import UsernameValidator, key, normalize


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann", "aNN"),
        ("É", "é"),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"),
        ("ann", "\N{FULLWIDTH LATIN SMALL LETTER A}nn"),
        ("ﬁ", "FI"),
        ("Straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ДАША", "даша"),
        ("ᾳ\N{COMBINING GREEK PERISPOMENI}", "ᾼ\N{COMBINING GREEK PERISPOMENI}"),
    ],
)
def test_case_composition_and_width_do_not_tell_names_apart(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("é", "e"),
        ("ü", "ue"),
        ("\N{LATIN SMALL LETTER DOTLESS I}", "i"),
        ("a", "\N{CYRILLIC SMALL LETTER A}"),
        ("ann", "ann1"),
    ],
)
def test_accents_and_scripts_tell_names_apart(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_every_character_has_the_key_of_its_other_forms() -> None:
    letters = [chr(code) for code in range(0x20000) if not 0xD800 <= code <= 0xDFFF]
    for letter in letters:
        forms = [
            key(letter),
            letter.lower(),
            letter.casefold(),
            normalize(letter),
            unicodedata.normalize("NFD", letter),
        ]
        if letter != "\N{LATIN SMALL LETTER DOTLESS I}":  # whose capital is that of another letter
            forms.append(letter.upper())
        assert {key(form) for form in forms} == {key(letter)}, letter


@pytest.mark.parametrize("name", ["ann", "ann.b+c-d_e", "Ådne", "даша", "王秀英", "e\N{COMBINING ACUTE ACCENT}", "42"])
def test_letters_digits_and_a_few_signs_make_a_username(name: str) -> None:
    UsernameValidator()(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a@b",
        "a\N{FULLWIDTH COMMERCIAL AT}b",
        "a\n",
        "a/b",
        "<b>",
        "\0",
        "⑴",
        "a\N{ZERO WIDTH JOINER}b",
        "\ud800",
    ],
)
def test_anything_else_makes_none(name: str) -> None:
    with pytest.raises(ValidationError, match="Enter a valid username"):
        UsernameValidator()(name)
