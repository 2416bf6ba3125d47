"""The bodies of the views' answers, as the OpenAPI schema describes them."""

from typing import Any

from rest_framework import serializers


class Registered(serializers.Serializer[Any]):
    detail = serializers.CharField(help_text="What to do before signing in.")


class Password(serializers.Serializer[Any]):
    hasPassword = serializers.BooleanField()  # noqa: N815


class SecondFactor(serializers.Serializer[Any]):
    enabled = serializers.BooleanField()
    enabledAt = serializers.DateTimeField(allow_null=True)  # noqa: N815
    recoveryCodesLeft = serializers.IntegerField()  # noqa: N815
    passkeys = serializers.IntegerField()


class SecondFactorSecret(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="In base32, to type into the app.")
    otpauthUri = serializers.CharField(help_text="The same as a URI, for an app on this device.")  # noqa: N815
    qrCode = serializers.CharField(  # noqa: N815
        help_text="The same as a QR code: an SVG image as a `data:` URI."
    )


class IssuedRecoveryCodes(serializers.Serializer[Any]):
    recoveryCodes = serializers.ListField(child=serializers.CharField())  # noqa: N815


class PasskeyOptions(serializers.Serializer[Any]):
    challenge = serializers.CharField(help_text="Send it back unchanged.")
    publicKey = serializers.DictField(  # noqa: N815
        help_text="For `parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`."
    )
