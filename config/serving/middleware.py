"""The middleware of the project."""

import logging
from collections.abc import Callable
from functools import lru_cache
from time import time
from typing import ClassVar

from corsheaders.middleware import ACCESS_CONTROL_ALLOW_ORIGIN, CorsMiddleware
from csp.constants import HEADER
from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponseBase, HttpResponsePermanentRedirect
from django.middleware.common import CommonMiddleware
from django.middleware.locale import LocaleMiddleware
from django.urls import Resolver404, URLResolver, get_resolver
from django.utils import translation
from django.utils.functional import cached_property

from config.environment import ORIGIN
from config.serving import outermost
from config.serving.errors import LengthRequired, answer, unavailable, unknown_path
from tokens.domain.outages import OUTAGES
from tokens.http.errors import BadRequest, TooLarge
from tokens.http.proofs import SENT_PATH
from tokens.http.requests import forwarded_address

GetResponse = Callable[[HttpRequest], HttpResponseBase]

logger = logging.getLogger(__name__)

MOST_REFUSED = 50
"""Refused origins that each process logs in an hour."""


class ClientAddress:
    """Take the client's address, the scheme and the host from the headers of the trusted proxies.

    A missing or malformed address leaves REMOTE_ADDR as it is.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if proxies := settings.TRUSTED_PROXIES:
            if address := forwarded_address(request.META, proxies):
                request.META["REMOTE_ADDR"] = address
            # Most proxies replace these two headers. If they add to them, the same count applies.
            for header in ("HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST"):
                if header in request.META:
                    request.META[header] = request.META[header].split(",")[-proxies:][0].strip()
        return self.get_response(request)


class CrossOrigin(CorsMiddleware):
    """django-cors-headers' middleware, which also logs each refused origin, with the setting that allows it.

    Browsers keep the response from such a page, whether they asked first or not, and POST is refused below `/auth/`.
    """

    def add_response_headers(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response = super().add_response_headers(request, response)
        origin = request.headers.get("origin")
        if origin and ACCESS_CONTROL_ALLOW_ORIGIN not in response and not _is_own(request, origin):
            _report(origin)
        return response


def _is_own(request: HttpRequest, origin: str) -> bool:
    """Return whether the page is the server's own, or the server has no such name anyway."""
    try:
        return origin == f"{request.scheme}://{request.get_host()}"
    except DisallowedHost:
        return True


def _report(origin: str) -> None:
    """Log the origin once an hour, and at most MOST_REFUSED, so that nobody fills the log."""
    logged = _logged(int(time() // 3600))
    if len(logged) < MOST_REFUSED and origin not in logged:
        logged.add(origin)
        if ORIGIN.fullmatch(origin):
            line = f"TRUSTED_ORIGINS={','.join([*settings.CORS_ALLOWED_ORIGINS, origin])}"
            logger.warning("Refused a page of %s. If it is your front end, set %s", origin, line)
        else:  # "null": a file, or a frame in a sandbox
            logger.warning("Refused a page whose origin is %.200r. Serve your front end over http or https.", origin)


@lru_cache(maxsize=1)
def _logged(hour: int) -> set[str]:
    """Return the refused origins that were logged in this hour since 1970."""
    return set()


class Language(LocaleMiddleware):
    """Django's middleware, which answers in the language that the request asks for.

    Paths for programs are left out: caches would keep their answers once for each Accept-Language.
    """

    FOR_PROGRAMS = ("/.well-known/", "/health/", "/metrics")

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not request.path_info.startswith(self.FOR_PROGRAMS):
            response = super().process_response(request, response)
        translation.deactivate()  # this thread may do other work next
        return response


class Refusals:
    """Refuse malformed requests, bodies without a length, and long bodies.

    Long bodies are refused before they are read: DRF reads JSON whole, past Django's limit.
    """

    ANSWERS: ClassVar = {"malformed": BadRequest, "no_length": LengthRequired}

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if reason := outermost.refusal(request):
            return answer(self.ANSWERS[reason])
        if outermost.is_too_long(request.META.get("CONTENT_LENGTH") or "0"):
            return answer(TooLarge)
        return self.get_response(request)


class OptionalTrailingSlash:
    """Let every path answer with and without a trailing slash, for any method, without a redirect."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not exists(request.path_info) and exists(twin := toggle_slash(request.path_info)):
            request.META[SENT_PATH] = request.path
            request.path = toggle_slash(request.path)
            request.path_info = twin
        return self.get_response(request)


def toggle_slash(path: str) -> str:
    return path[:-1] if path.endswith("/") else f"{path}/"


def exists(path: str) -> bool:
    return _leads_somewhere(get_resolver(), path)


@lru_cache(maxsize=1000)
def _leads_somewhere(resolver: URLResolver, path: str) -> bool:
    try:
        return resolver.resolve(path).func is not unknown_path
    except Resolver404:
        return False


class HostCheck(CommonMiddleware):
    """Django's middleware, which refuses a Host that is not in ALLOWED_HOSTS.

    Probes and scrapers send the address of a container, which is not known beforehand. Their answers don't depend on
    the Host.
    """

    FOR_MACHINES = ("/health/", "/metrics")

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        return None if request.path_info.startswith(self.FOR_MACHINES) else super().process_request(request)


OWN_POLICY = frozenset(
    f"_csp_{wish}{which}" for wish in ("config", "exempt", "replace", "update") for which in ("", "_ro")
)
"""The attributes that django-csp's decorators set on a response with its own policy."""


class ContentSecurityPolicy(CSPMiddleware):
    """django-csp's middleware, which sets no policy on Django's own pages for 404 and 500 while DEBUG is on.

    A policy would block their scripts. Other sites can't show these pages in a frame either.

    django-csp builds the policy for each response. Here it is built once, for all responses that want no other.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if self.policy and OWN_POLICY.isdisjoint(vars(response)) and "_csp_nonce" not in vars(request):
            response.setdefault(HEADER, self.policy)
            return response
        response = super().process_response(request, response)
        response.setdefault(HEADER, "frame-ancestors 'none'")
        return response

    @cached_property
    def policy(self) -> str:
        """The policy of all responses; empty if the settings don't give all the same."""
        is_one = settings.CONTENT_SECURITY_POLICY.keys() == {"DIRECTIVES"} and not settings.DEBUG
        return build_policy() if is_one and not hasattr(settings, "CONTENT_SECURITY_POLICY_REPORT_ONLY") else ""


class Unavailable:
    """Answer 503 while the database can't do its work, for views that are not DRF's."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        return unavailable(exception) if isinstance(exception, OUTAGES) else None
