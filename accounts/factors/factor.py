"""The interface of a factor. Each is a module with these functions, and an entry in `registry.FACTORS`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from django.utils.translation import gettext_lazy as _

from tokens.domain.client import Client
from tokens.domain.signing_in import Answer
from tokens.exceptions import AnswerNotValid

from ..models import User


class Factor(Protocol):
    METHOD: str
    """Its name for clients."""

    FIELD: str
    """The field of a client's answer that this factor reads."""

    NOT_VALID: type[AnswerNotValid]
    """The exception for a wrong answer."""

    def usable(self) -> bool:
        """Return whether this deployment accepts it. If not, its users still can't sign in with a password alone."""
        ...

    def since(self, user: User) -> datetime | None:
        """Return when the user got it, or None for a user who does not have it."""
        ...

    def options(self, user: User, challenge: str) -> Mapping[str, Any]:
        """Return what a client needs to answer the challenge with this factor."""
        ...

    def use(self, user: User, answer: Answer, client: Client) -> Sequence[str] | None:
        """Use the answer up, and return how the user has signed in (RFC 8176); None if it is not right.

        One statement uses the answer up, so it works once, even under parallel tries.
        """
        ...

    def remove(self, user: User) -> bool:
        """Delete all that the user has of it; return whether there was anything."""
        ...


class CodeNotValid(AnswerNotValid):
    field = "code"
    code = "invalid_code"
    message = _("This code is wrong or was already used.")
