"""The guard of django-ninja's operations, sync and async."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja.errors import HttpError
from ninja.security import HttpBearer
from rest_framework.exceptions import APIException

from ..authentication import JWTAuthentication
from ..domain.outages import OUTAGES
from ..http import errors
from ..tokens import Token


class Refusal(HttpError):
    """The token is refused, or can't be verified at the moment.

    django-ninja answers it with its status and its sentence; `answer`, as its handler, adds the code and the headers.
    """

    def __init__(self, error: Exception) -> None:
        self.response = errors.answer(error)
        super().__init__(self.response.status_code, json.loads(self.response.content)["detail"])


class SessionAuth(HttpBearer):
    """Authenticate a request by an active session's access token; `request.auth` is the token, `request.user` its user.

    A token that is bound to a key needs a proof of it, as in DRF's views. Raises Refusal.
    """

    def __call__(self, request: HttpRequest) -> Token | None:
        # The guard reads the header itself: a bound token has another scheme.
        return self.authenticate(request)

    def authenticate(self, request: Any, token: str = "") -> Token | None:
        try:
            let_in = JWTAuthentication().authenticate(request)
        except (APIException, *OUTAGES) as error:
            raise Refusal(error) from error
        if let_in is None:
            return None
        request.user, access = let_in
        return access


def answer(request: HttpRequest, refusal: Any) -> HttpResponse:
    """Answer as DRF's views do: `api.add_exception_handler(Refusal, answer)`."""
    response: HttpResponse = refusal.response
    return response
