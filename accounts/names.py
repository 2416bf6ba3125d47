"""Decides when two names or addresses are the same: in every database, without regard to case, composition and width.

Each function checks the length first: normalising takes quadratic time.
"""

import re
import unicodedata

import idna
from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator, RegexValidator
from django.utils.deconstruct import deconstructible
from django.utils.translation import gettext_lazy as _

LENGTH = 320
"""Characters: the longest that an email address can be. Longer text stays as it is. It is no name, and matches none."""

MAILBOX_LENGTH = 254
"""The most characters of an address that mail is sent to (RFC 5321, section 4.5.3.1.3)."""


def normalize(name: str) -> str:
    """Return the form in which a name is stored: NFKC, without the spaces around it.

    An address has the domain that its mails go to (IDNA 2008).
    """
    if len(name) > LENGTH:
        return name
    local, at, domain = unicodedata.normalize("NFKC", name).strip().rpartition("@")
    return local + at + (_domain(domain) if at else domain)


def key(name: str) -> str:
    """Return the form that equal names share: "É" is "é", however composed, but not "e".

    Equal addresses share theirs, whether the domain is written in Unicode or in punycode.
    """
    if len(name) > LENGTH:
        return name
    local, at, domain = normalize(name).rpartition("@")
    # The domain is not folded: straße.example and strasse.example are two domains.
    return fold(_unquoted(local), LENGTH) + at + domain if at else fold(domain, LENGTH).strip()


def fold(text: str, longest: int) -> str:
    """Return the text without case, composition and width; a text that is too long, as it is."""
    if len(text) > longest:
        return text
    # Decomposed first, so that the marks are in order before folding makes a letter of one (the Greek iota subscript).
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())


def mailbox(address: str) -> str:
    """Return the address for a mail server, with the domain in ASCII. Raises ValidationError."""
    local, at, domain = normalize(address).rpartition("@")
    try:
        ascii_address = local + at + (domain if domain.isascii() else idna.encode(domain).decode())
    except ValueError as error:
        raise InvalidAddress from error
    if len(ascii_address) > MAILBOX_LENGTH:
        raise InvalidAddress
    return ascii_address


class InvalidAddress(ValidationError):
    def __init__(self) -> None:
        super().__init__(EmailValidator.message, EmailValidator.code)


def _domain(domain: str) -> str:
    """Return the domain in Unicode, by IDNA 2008; text that is no domain, in lower case."""
    if domain.isascii() and "xn--" not in domain.lower():
        return domain.lower()
    try:
        return idna.decode(idna.encode(domain, uts46=True))
    except ValueError:
        return domain.casefold()


def _unquoted(local: str) -> str:
    """Return the part before the `@` without quotes, which change nothing (RFC 5321, section 4.1.2)."""
    return re.sub(r"\\(.)", r"\1", local[1:-1]) if re.fullmatch(r'".*"', local) else local


@deconstructible
class UsernameValidator(RegexValidator):
    """Letters, marks, digits and joiners as in domain names of any script (IDNA 2008), and a few signs.

    There is no `@`, so that no username can pass for an address.
    """

    regex = r"^[^\s@]+\Z"
    message = _("Enter a valid username: letters, digits and . + - _ only.")

    def __call__(self, value: str) -> None:
        # IDNA's rules also take quadratic time.
        if len(value) > LENGTH:
            raise ValidationError(self.message, self.code)
        # A character may be normalised to one that is not allowed.
        name = normalize(value)
        super().__call__(name)
        try:
            for word in re.split(r"[._+-]+", key(name)):
                if word:
                    idna.check_label(word)
        except ValueError as error:
            raise ValidationError(self.message, self.code) from error
