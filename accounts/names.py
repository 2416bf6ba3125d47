"""When two names, or two addresses, are the same: in every engine, without regard to case, composition and width."""

import unicodedata

from django.core.validators import RegexValidator
from django.utils.deconstruct import deconstructible
from django.utils.translation import gettext_lazy as _


def normalize(name: str) -> str:
    """Return the form in which a name is kept (NFKC)."""
    return unicodedata.normalize("NFKC", name)


def key(name: str) -> str:
    """Return the form that equal names share: "É" is "é", however composed, but not "e"."""
    # Decomposed first: marks come into their one order before folding makes a letter of one, the Greek iota subscript.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", name).casefold())


@deconstructible
class UsernameValidator(RegexValidator):
    """Django's, without the `@`, so that no username can pass for an address."""

    regex = r"^[\w.+-]+\Z"
    message = _("Enter a valid username: letters, digits and . + - _ only.")

    def __call__(self, value: str) -> None:
        # What a character is normalised to may be none that is allowed.
        super().__call__(normalize(value))
