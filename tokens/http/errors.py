"""Error responses: `{"detail": a sentence for a person, "code": a stable word for a program}`."""

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, JsonResponse
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from ..domain.outages import OUTAGES, describe
from ..exceptions import (
    NonceRequired,
    NotExchangeable,
    ProofRefused,
    SecondFactorRequired,
    TokenRefused,
    TooManyTries,
)
from ..jose import dpop
from .cookies import RefreshTokenMissing
from .refusals import (
    DPOP_ALGORITHMS,
    DPOP_CHALLENGE,
    ReauthenticationRequired,
    Refused,
    challenge,
    challenges,
)

logger = logging.getLogger(__name__)


class BadRequest(exceptions.APIException):
    status_code = status.HTTP_400_BAD_REQUEST
    default_detail = _("The request is malformed.")
    default_code = "bad_request"


class TooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The request is too large.")
    default_code = "too_large"


class Gone(exceptions.APIException):
    status_code = status.HTTP_410_GONE
    default_detail = _("This cursor has expired. Start again without a cursor.")
    default_code = "cursor_expired"


class Unavailable(exceptions.APIException):
    """The database can't do its work. That is no fault of the client's token, so nothing is cleared or revoked."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = _("The service is unavailable. Try again in a few seconds.")
    default_code = "unavailable"
    wait = 5
    """Seconds after which to ask again."""

    @classmethod
    def because_of(cls, error: Exception) -> "Unavailable":
        """Log the reason, which the answer does not give."""
        logger.warning("The database is unavailable: %s", describe(error))
        return cls()


OF_DJANGO: dict[type[Exception], Callable[[], exceptions.APIException]] = {
    RequestDataTooBig: TooLarge,
    SuspiciousOperation: BadRequest,
    Http404: exceptions.NotFound,
    PermissionDenied: exceptions.PermissionDenied,
}
"""Responses to Django's own errors; the first match counts."""


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an error in the one shape; a body that fails validation keeps DRF's own."""
    error = as_api_exception(error)
    if isinstance(error, exceptions.ParseError):
        error = exceptions.ParseError()  # DRF's own quotes its parser, whose message is always in English
    response = drf_exception_handler(error, context)
    if response is None or not isinstance(error, exceptions.APIException):
        return response
    if isinstance(error.detail, exceptions.ErrorDetail):
        response.data = {"detail": error.detail, "code": error.detail.code}
    elif isinstance(error.detail, list):
        response.data = {"non_field_errors": error.detail}
    if response.status_code == status.HTTP_401_UNAUTHORIZED:
        response["Cache-Control"] = "no-store"
        # The refusal of an old sign-in has its own challenge.
        if not isinstance(error, ReauthenticationRequired):
            response["WWW-Authenticate"] = _challenge(error)
        if isinstance(error, Refused) and isinstance(error.refusal, NonceRequired):
            response["DPoP-Nonce"] = dpop.newest_nonce()
    return response


def answer(error: Exception) -> JsonResponse:
    """Answer an error in the same way outside of DRF's views. Raises every other error again."""
    response = exception_handler(error, {})
    if response is None:
        raise error
    headers = {name: value for name, value in response.items() if name != "Content-Type"}
    return JsonResponse(response.data, status=response.status_code, headers=headers)


def _challenge(error: exceptions.APIException) -> str:
    match error:
        case Refused(refusal=ProofRefused() as refusal):
            return f'{DPOP_CHALLENGE}, error="{refusal.error}", {DPOP_ALGORITHMS}'
        case Refused():
            return f'{challenge()}, error="invalid_token"'
        case exceptions.NotAuthenticated():
            return challenges()
    return challenge()


def as_api_exception(error: Exception) -> Exception:
    if isinstance(error, OUTAGES):
        return Unavailable.because_of(error)
    match error:
        case RefreshTokenMissing():
            return exceptions.NotAuthenticated(error.args[0], error.code)
        case TokenRefused():
            return Refused(error)
        case SecondFactorRequired():
            body: Any = {"detail": error.message, "code": error.code, "challenge": error.challenge}
            return exceptions.AuthenticationFailed({**body, "methods": [*error.methods], **error.options})
        case NotExchangeable():
            return exceptions.AuthenticationFailed(error.message, error.code)
        case TooManyTries():
            return exceptions.Throttled(error.wait)
    return next((answered() for known, answered in OF_DJANGO.items() if isinstance(error, known)), error)
