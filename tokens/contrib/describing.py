"""What the OpenAPI schema says of a view's operations: errors by status, headers and bodies."""

from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.views import APIView

from ..authentication import JWTAuthentication
from ..http.operations import GUARD, OWN, Operation
from ..jose.keys import KEY_SET_MAX_AGE
from ..views import AuthView, PublishedView

Schema = dict[str, Any]

TEXT = {"type": "string"}
FIELD_ERRORS = {
    "type": "object",
    "description": "Messages by field. Messages about no single field are under `non_field_errors`.",
    "additionalProperties": {"type": "array", "items": TEXT},
}


def describe(view: type[APIView], action: str, operation: Operation) -> Any:
    """Return the decorator that describes this operation of the view."""
    reads_body = action in ("post", "patch", "partial_update") and operation.request is not None
    codes = defaultdict(list, {status: list(known) for status, known in operation.errors.items()})
    if any(issubclass(scheme, JWTAuthentication) for scheme in view.authentication_classes):
        codes[401][:0] = GUARD
    if issubclass(view, AuthView):
        codes[403].append("cross_site_request")
    if reads_body:
        codes[400].append("parse_error")
        codes[413].append("too_large")
        codes[415].append("unsupported_media_type")
    if getattr(view, "throttle_scope", None):
        codes[429] = ["throttled"]
    if operation.database:
        codes[503].append("unavailable")
    errors: dict[int, Any] = {status: _error(*known) for status, known in codes.items()}
    if reads_body or operation.fields:
        errors[400] = {"oneOf": [FIELD_ERRORS, errors[400]]} if 400 in errors else FIELD_ERRORS
    successes = {status: _own(view) if body is OWN else body for status, body in operation.responses.items()}
    responses = dict(sorted({**successes, **errors}.items()))
    return extend_schema(
        operation_id=operation.name,
        summary=operation.summary,
        parameters=[*operation.parameters, *_headers(view, operation, responses, codes.get(401, ()))],
        request=operation.request,
        examples=_examples(view, _own(view) if operation.request is OWN else operation.request) if reads_body else (),
        responses={
            status: OpenApiResponse(body, description=HTTPStatus(status).phrase) for status, body in responses.items()
        },
        auth=operation.auth,
    )


def _own(view: Any) -> Any:
    return view().get_serializer_class() if hasattr(view, "get_serializer_class") else view.serializer_class


def _examples(view: type[APIView], body: Any) -> list[OpenApiExample]:
    value = getattr(body, "example", None)
    media_type = view.parser_classes[0].media_type
    return [] if value is None else [OpenApiExample("Example", value, request_only=True, media_type=media_type)]


def _error(*codes: str) -> Schema:
    properties = {"detail": TEXT, "code": {"type": "string", "enum": list(codes)}}
    body = {"type": "object", "properties": properties, "required": list(properties)}
    if "second_factor_required" in codes:
        challenge = "With `second_factor_required`: send this with the code or passkey."
        options = "The options for the passkey, if `passkey` is among the methods."
        methods = "With `second_factor_required`: the account's methods, from `passkey`, `otp`, `recoveryCode`."
        body["properties"] = {
            **properties,
            "challenge": {**TEXT, "description": challenge},
            "methods": {"type": "array", "items": TEXT, "description": methods},
            "publicKey": {"type": "object", "description": options},
        }
    return body


def _headers(
    view: type[APIView], operation: Operation, statuses: Iterable[int], codes: Iterable[str]
) -> list[OpenApiParameter]:
    headers: list[tuple[str, str, Iterable[int]]] = [
        ("WWW-Authenticate", 'With `error="invalid_token"` if a token was presented.', (401,)),
        ("Retry-After", "Seconds.", (429, 503)),
        ("Set-Cookie", "The refresh token; empty and expired if the cookie is cleared.", operation.cookie),
    ]
    if cache_control := getattr(view, "cache_control", ""):
        headers.append(("Cache-Control", f"`{cache_control}`", statuses))
    if issubclass(view, PublishedView):
        headers.append(("Cache-Control", f"`max-age={KEY_SET_MAX_AGE}, public`", statuses))
    if 304 in operation.responses:
        headers.append(
            ("ETag", "Send it as `If-None-Match` to find out whether this has changed.", operation.responses)
        )
    if "use_dpop_nonce" in codes:
        headers.append(("DPoP-Nonce", "The nonce for the next key proof.", statuses))
    return [
        OpenApiParameter(name, str, OpenApiParameter.HEADER, description=description, response=response)
        for name, description, where in headers
        if (response := sorted(set(where).intersection(statuses)))
    ]
