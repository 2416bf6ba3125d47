"""Fields for tokens, in requests and responses."""

from typing import Any

from rest_framework.fields import CharField


class TokenField(CharField):
    """A token as it was sent. Malformed text, as with a NUL byte, is refused as a token and not as a field."""

    example = "eyJ…"
    """What the OpenAPI schema shows, as the reference does."""

    def run_validators(self, value: Any) -> None:
        """Do nothing: the parser of tokens checks it."""


class TokenHintField(TokenField):
    """The kind of the token (RFC 7009, section 2.1). Any text is accepted."""

    example = "refresh_token"
