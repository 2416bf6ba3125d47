"""Answers to errors that happen outside the API's own views: JSON for programs, a page for browsers."""

import sys

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.translation import gettext_lazy as _
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound, PermissionDenied

from tokens.domain.outages import OUTAGES
from tokens.http.errors import BadRequest, Unavailable


class LengthRequired(APIException):
    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_detail = _("The request needs a Content-Length header.")
    default_code = "length_required"


def answer(error: type[APIException]) -> JsonResponse:
    """Answer an error as the API's views do."""
    return JsonResponse({"detail": str(error.default_detail), "code": error.default_code}, status=error.status_code)


def unavailable(error: Exception) -> JsonResponse:
    """Answer 503 while the database can't do its work."""
    Unavailable.because_of(error)
    response = answer(Unavailable)
    response["Retry-After"] = str(Unavailable.wait)
    return response


def reads_html(request: HttpRequest) -> bool:
    """Return whether the answer should be a page: outside of the API's paths, to a client that prefers HTML."""
    if request.path_info.startswith(("/api/", "/auth/", "/health/", "/.well-known/")):
        return False
    return request.get_preferred_type(["application/json", "text/html"]) == "text/html"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return defaults.bad_request(request, exception) if reads_html(request) else answer(BadRequest)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return defaults.permission_denied(request, exception) if reads_html(request) else answer(PermissionDenied)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return defaults.page_not_found(request, exception) if reads_html(request) else answer(NotFound)


def server_error(request: HttpRequest) -> HttpResponseBase:
    error = sys.exception()
    if isinstance(error, OUTAGES):
        # The admin's session could not be saved. This is raised in a middleware, so no other handler sees it.
        return unavailable(error)
    return defaults.server_error(request) if reads_html(request) else answer(APIException)


@csrf_exempt
def unknown_path(request: HttpRequest) -> JsonResponse:
    """Answer a path of the API that does not exist. With DEBUG on, Django would show its own page."""
    return answer(NotFound)
