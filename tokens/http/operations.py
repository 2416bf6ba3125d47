"""Describes endpoints for the OpenAPI schema: what their code doesn't show. A view holds its own, as `operations`.

Nothing here needs drf-spectacular: `contrib/spectacular` reads the descriptions where a project has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rest_framework.fields import empty

OWN: Any = empty
"""Stands for the serializer of the view."""

LOOK = ("token_not_valid", "token_expired", "token_revoked")
PROOF = ("invalid_dpop_proof", "use_dpop_nonce")
KEY_OF_LOGIN = ("dpop_proof_required", *PROOF)
KEY_OF_SECOND_STEP = ("dpop_key_mismatch", *PROOF)
KEY_OF_SESSION = ("dpop_proof_required", "dpop_key_mismatch", *PROOF)
ROTATION = (*LOOK, "token_reused", *KEY_OF_SESSION)
GUARD = ("not_authenticated", *ROTATION)
EXCHANGE = ("not_authenticated", "session_not_exchangeable", "second_factor_required", *KEY_OF_LOGIN)
SECOND_STEP = ("invalid_code", "invalid_passkey", "invalid_challenge", *KEY_OF_SECOND_STEP)


@dataclass(frozen=True)
class Operation:
    """One method of a view, or one action of a viewset.

    A view names its own in `operations`, by the name of the method or action; a class derived from it inherits none.
    What follows from the view's class (who may call, which bodies it reads, how its lists are paged, the errors of its
    guards and limits) is not said again.
    """

    name: str
    """The operation's id, which no other operation has."""

    summary: str
    responses: Mapping[int, Any]
    """The body of each status of success: a serializer, or a JSON schema; None is an empty one."""

    errors: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """The codes of each status, beside those that follow from the view."""

    request: Any = OWN
    """The serializer of the body; None where no body is read."""

    parameters: tuple[Any, ...] = ()
    """Serializers of the query."""

    auth: Any = None
    """The security requirements, where they don't follow from the view's authentication."""

    cookie: tuple[int, ...] = ()
    """The statuses that set or clear the cookie."""

    fields: bool = False
    """Whether a parameter's value can be refused, by its name."""

    database: bool = True
    """Whether the database is asked, and an outage answered with 503."""
