"""How people type codes."""

import unicodedata

IGNORED = {"Pd", "Zs", "Cc", "Cf"}
"""The kinds of characters that people and keyboards put between the groups of a code: dashes, spaces, line ends,
direction marks. The minus sign has another kind."""


def as_issued(code: str) -> str:
    """Return the code in lower-case letters and the digits 0 to 9, without anything between its groups."""
    return "".join(map(_as_issued, code)).lower()


def _as_issued(character: str) -> str:
    if character == "\N{MINUS SIGN}" or unicodedata.category(character) in IGNORED:
        return ""
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)
