"""The bodies of the views' answers, as the OpenAPI schema describes them."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import IntegerField
from rest_framework import serializers

from .http.fields import TokenField

OBJECT = {"type": "object", "additionalProperties": {}}
EMPTY = {"type": "object", "additionalProperties": False}
KEY_SET = {
    "type": "object",
    "properties": {"keys": {"type": "array", "items": {"type": "object", "required": ["kty", "kid", "alg", "use"]}}},
    "required": ["keys"],
}


class Refreshed(serializers.Serializer[Any]):
    accessToken = TokenField()  # noqa: N815
    tokenType = serializers.CharField(  # noqa: N815
        help_text="`Bearer`, or `DPoP` if the token is bound to a key (RFC 9449)."
    )
    expiresIn = serializers.IntegerField(help_text="Seconds.")  # noqa: N815


class SignedInUser(serializers.Serializer[Any]):
    id = serializers.IntegerField() if isinstance(get_user_model()._meta.pk, IntegerField) else serializers.CharField()
    username = serializers.CharField()
    email = serializers.CharField()


class SignedIn(Refreshed):
    user = SignedInUser()


class Succeeded(Refreshed):
    refresh = TokenField(required=False)


class Introspection(serializers.Serializer[Any]):
    active = serializers.BooleanField(
        help_text="Whether the token would be accepted now. If not, there are no other fields."
    )
    sub = serializers.CharField(required=False)
    username = serializers.CharField(required=False)
    iss = serializers.CharField(required=False)
    jti = serializers.CharField(required=False)
    sid = serializers.CharField(required=False)
    aud = serializers.CharField(required=False, help_text="Access tokens only.")
    iat = serializers.IntegerField(required=False)
    exp = serializers.IntegerField(required=False)
    groups = serializers.ListField(child=serializers.CharField(), required=False)
    token_type = serializers.CharField(required=False, help_text="`access` or `refresh`.")
    cnf = serializers.DictField(
        child=serializers.CharField(),
        required=False,
        help_text="The thumbprint of the key that the token is bound to, as `jkt` (RFC 9449).",
    )


class EndedSession(serializers.Serializer[Any]):
    sid = serializers.CharField(help_text="The session's ID, as in its tokens.")
    at = serializers.DateTimeField()
    reason = serializers.CharField()


class EndedSessions(serializers.Serializer[Any]):
    ended = EndedSession(many=True)
    next = serializers.CharField(help_text="The value of `after` for the next request.")
    interval = serializers.IntegerField(help_text="Seconds to wait until then.")
