from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from tokens.domain.signing_in import PASSWORD_LENGTH

from . import names


class MaximumLengthValidator:
    """Refuse a password that is too long for any login, wherever it is set."""

    def validate(self, password: str, user: object = None) -> None:
        if len(password) > PASSWORD_LENGTH:
            raise ValidationError(self.get_help_text(), "password_too_long")

    def get_help_text(self) -> str:
        return _("Your password can have at most %d characters.") % PASSWORD_LENGTH


class ForbiddenWordsValidator:
    """Refuse a password that is little more than words that fit this deployment (OWASP ASVS 5.0, 6.2.11).

    Case, composition and width don't count. Without these words, the rest has to be long enough.
    """

    def __init__(self, words: Sequence[str] = (), min_length: int = 8) -> None:
        # The longest first, so that no shorter word breaks it up.
        self.words = sorted((names.fold(word, PASSWORD_LENGTH) for word in words), key=len, reverse=True)
        self.min_length = min_length

    def validate(self, password: str, user: object = None) -> None:
        rest = whole = names.fold(password, PASSWORD_LENGTH)
        for word in self.words:
            rest = rest.replace(word, "")
        if len(rest) < min(self.min_length, len(whole)):
            raise ValidationError(_("This password is too easy to guess on this site."), "password_forbidden_words")

    def get_help_text(self) -> str | Promise:
        return _("Your password can't consist mostly of words related to this site.")
