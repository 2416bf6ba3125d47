"""What a factor is. Each is a module with these functions, and stands in the list of `registry`."""

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
    """What a client knows it by."""

    FIELD: str
    """The name in an answer that holds it."""

    NOT_VALID: type[AnswerNotValid]
    """What a wrong answer raises."""

    def usable(self) -> bool:
        """Return whether this deployment takes it. Turned off, it still keeps out those who have the password alone."""
        ...

    def since(self, user: User) -> datetime | None:
        """Return when the user got it, or None for a user who does not have it."""
        ...

    def options(self, user: User, challenge: str) -> Mapping[str, Any]:
        """Return what a client needs to answer the challenge with it."""
        ...

    def use(self, user: User, answer: Answer, client: Client) -> Sequence[str] | None:
        """Use the answer up, and return how the user has signed in (RFC 8176); None if it is not right.

        One statement takes it, so that it works once in parallel too.
        """
        ...

    def remove(self, user: User) -> bool:
        """Delete what the user has of it; return whether there was anything."""
        ...


class CodeNotValid(AnswerNotValid):
    field = "code"
    code = "invalid_code"
    message = _("This code is wrong or was already used.")
