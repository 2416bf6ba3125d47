"""When two names, or two addresses, are the same: in every engine, without regard to case, composition and width.

Each function judges the length first: normalising takes time that grows with its square.
"""

import re
import unicodedata

import idna
from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator, RegexValidator
from django.utils.deconstruct import deconstructible
from django.utils.translation import gettext_lazy as _

LENGTH = 320
"""Characters; as long as an email address can be. What is longer stays as it is: it is no name, and found nowhere."""

MAILBOX_LENGTH = 254
"""Characters of an address as it is mailed to (RFC 5321, section 4.5.3.1.3)."""


def normalize(name: str) -> str:
    """Return the form in which a name is kept (NFKC), without the spaces around it; an address with the domain that
    mails to it go to (IDNA 2008)."""
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
    # The domain is not folded, which would make one of two that differ: straße.example and strasse.example.
    return fold(_unquoted(local), LENGTH) + at + domain if at else fold(domain, LENGTH).strip()


def fold(text: str, longest: int) -> str:
    """Return the text without what case, composition and width add; one that is too long, as it is."""
    if len(text) > longest:
        return text
    # Decomposed first: marks come into their one order before folding makes a letter of one, the Greek iota subscript.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())


def mailbox(address: str) -> str:
    """Return the address as a mail server is given it, with the domain in ASCII. Raises ValidationError."""
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
    """Return the domain in Unicode, as IDNA 2008 has it; in small letters, if it is none."""
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
    """Letters, marks, digits and joiners as in domain names of any script (IDNA 2008), and a few signs; no `@`, so that
    no username can pass for an address."""

    regex = r"^[^\s@]+\Z"
    message = _("Enter a valid username: letters, digits and . + - _ only.")

    def __call__(self, value: str) -> None:
        # IDNA's rules take quadratic time, too.
        if len(value) > LENGTH:
            raise ValidationError(self.message, self.code)
        # What a character is normalised to may be none that is allowed.
        name = normalize(value)
        super().__call__(name)
        try:
            for word in re.split(r"[._+-]+", key(name)):
                if word:
                    idna.check_label(word)
        except ValueError as error:
            raise ValidationError(self.message, self.code) from error
