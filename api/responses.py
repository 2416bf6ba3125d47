"""The bodies of the views' answers, as the OpenAPI schema describes them."""

from typing import Any

from rest_framework import serializers

LINKS = {"type": "object", "additionalProperties": {"type": "string", "format": "uri"}}


class Status(serializers.Serializer[Any]):
    status = serializers.CharField(help_text="`ok`.")


class Revoked(serializers.Serializer[Any]):
    revoked = serializers.IntegerField(help_text="The number of sessions that were revoked.")
