import unicodedata

import pytest
from django.core.exceptions import ValidationError

from accounts.names import LENGTH, UsernameValidator, fold, key, mailbox, normalize


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
        ("ann", " ann\t\N{NO-BREAK SPACE}"),
        ("victim@example.com", "victim@exam\N{SOFT HYPHEN}ple.com"),
        ("victim@example.com", "victim@example\N{IDEOGRAPHIC FULL STOP}com"),
        ("victim@example.com", "victim@\N{FULLWIDTH LATIN CAPITAL LETTER E}xample.com "),
        ("victim@example.com", '"victim"@example.com'),
        ("ada@bücher.example", "ADA@XN--BCHER-KVA.example"),
        ("ada@bücher.example", "ada@BU\N{COMBINING DIAERESIS}CHER.example"),
        ("ada@xn--zzzzzz.example", "ada@XN--ZZZZZZ.example"),
    ],
)
def test_names_differing_in_case_composition_or_width_are_equal(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("é", "e"),
        ("ü", "ue"),
        ("\N{LATIN SMALL LETTER DOTLESS I}", "i"),
        ("a", "\N{CYRILLIC SMALL LETTER A}"),
        ("ann", "ann1"),
        ("ada@straße.example", "ada@strasse.example"),
        ("ada@faß.example", "ada@fass.example"),
        ('"a b"@example.com', "ab@example.com"),
    ],
)
def test_names_differing_in_accents_or_scripts_are_different(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_every_form_of_a_character_has_the_same_key() -> None:
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


@pytest.mark.parametrize(
    "name",
    [
        *("ann", "ann.b+c-d_e", "Ådne", "даша", "王秀英", "e\N{COMBINING ACUTE ACCENT}", "42", "İpek", "..."),
        *("नमस्ते", "राम.सिंह", "क्\N{ZERO WIDTH JOINER}ष", "ไพโรจน์", "علی", "می\N{ZERO WIDTH NON-JOINER}خواهم", "שרה"),
    ],
)
def test_letters_digits_and_a_few_signs_make_a_username(name: str) -> None:
    UsernameValidator()(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a@b",
        "a\N{FULLWIDTH COMMERCIAL AT}b",
        "a\nb",
        "a/b",
        "<b>",
        "\0",
        "⑴",
        "a\N{ZERO WIDTH JOINER}b",
        "a\N{ZERO WIDTH NON-JOINER}b",
        "a\N{VARIATION SELECTOR-16}b",
        "a\N{COMBINING GRAPHEME JOINER}b",
        "\N{HANGUL FILLER}",
        "\N{COMBINING ACUTE ACCENT}a",
        "\ud800",
    ],
)
def test_other_characters_are_refused_in_a_username(name: str) -> None:
    with pytest.raises(ValidationError, match="Enter a valid username"):
        UsernameValidator()(name)


WORST = "a" * 100_000 + "\N{COMBINING ACUTE ACCENT}" * 100_000 + "\N{COMBINING GRAVE ACCENT BELOW}" * 100_000
"""A text that Python takes minutes to normalise."""


@pytest.mark.parametrize("name", [WORST, f"{WORST}@example.com", f"a@{WORST}.com", "a" * (LENGTH + 1)])
def test_too_long_text_is_not_normalised(name: str) -> None:
    assert normalize(name) is name
    assert key(name) is name
    assert fold(name, LENGTH) is name
    with pytest.raises(ValidationError):
        UsernameValidator()(WORST)
    with pytest.raises(ValidationError):
        mailbox(name)


@pytest.mark.parametrize(
    ("typed", "kept", "mailed"),
    [
        (" Ada@Example.COM ", "Ada@example.com", "Ada@example.com"),
        ("ada@BÜCHER.example", "ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@straße.example", "ada@straße.example", "ada@xn--strae-oqa.example"),
        ("victim@exam\N{SOFT HYPHEN}ple.com", "victim@example.com", "victim@example.com"),
    ],
)
def test_address_is_stored_readable_and_mailed_to_in_ascii(typed: str, kept: str, mailed: str) -> None:
    assert normalize(typed) == kept
    assert mailbox(typed) == mailed == mailbox(kept)


@pytest.mark.parametrize(
    "address",
    ["ada@\N{SNOWMAN}.example", "ada@\ud800.example", "a" * 64 + "@" + "é" * 50 + ".é" * 60, "a" * 255 + "@b.c"],
)
def test_undeliverable_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="Enter a valid email address"):
        mailbox(address)
