"""The API in a browser: the sign-in that it shares with the admin, and pages with forms for the views."""

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import NoReverseMatch, get_script_prefix, resolve
from django.utils.translation import gettext_lazy as _
from rest_framework import renderers, status
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.page_session import Pass, current
from tokens.http.requests import SAFE_METHODS


class CsrfCheck(CsrfViewMiddleware):
    """Django's CSRF check, which returns why it refuses instead of a response."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


class CsrfFailed(PermissionDenied):
    default_detail = _("This request did not come from a page on this site.")
    default_code = "csrf_failed"


class PassAuthentication(BaseAuthentication):
    """Authenticate users who are signed in here or in the admin.

    `request.auth` is the Pass, `request.auth.session` its session.

    Other sites can make a browser send the cookie, so every change also needs the CSRF token of one of our pages.
    """

    def authenticate(self, request: Request) -> tuple[Any, Pass] | None:
        """Return the user and the pass; None if there is none. Raises CsrfFailed."""
        page_pass = current(request._request)
        if page_pass is None:
            return None
        if request.method not in SAFE_METHODS:
            self.check_csrf(request)
        return page_pass.session.user, page_pass

    def check_csrf(self, request: Request) -> None:
        check = CsrfCheck(HttpResponse)
        check.process_request(request._request)
        if check.process_view(request._request, HttpResponse, (), {}):
            raise CsrfFailed


class PageRenderer(renderers.BrowsableAPIRenderer):
    """The page of a view: its answer, a form for each of its methods, and a link to each of its rows."""

    template = "api/page.html"
    filter_template = "api/filters.html"

    def render(  # type: ignore[override]  # DRF takes bytes as well
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        page: str = super().render(data, accepted_media_type, renderer_context)
        renderer_context["response"]["Cache-Control"] = "no-store"
        return page.encode(errors="replace")  # a form shows its input again, which may hold lone surrogates

    def get_context(self, data: Any, accepted_media_type: str | None, renderer_context: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(data, accepted_media_type, renderer_context)
        view, request, response = context["view"], context["request"], context["response"]
        return {
            **context,
            "patch_form": self.get_rendered_html_form(data, view, "PATCH", request),
            "has_ended": has_ended(request),
            "is_too_old": isinstance(request.auth, Pass) and response.status_code == status.HTTP_401_UNAUTHORIZED,
            "rows": [*self.get_rows(data, view)],
            "actions": self.get_actions(view, response),
        }

    def get_rows(self, data: Any, view: Any) -> Any:
        """Yield the rows of a list as links: a name for people, the address, and the methods there."""
        rows = data.get("results", ()) if isinstance(data, dict) else ()
        for row in rows:
            with suppress(NoReverseMatch):  # where a row has no address
                url = view.reverse_action("detail", args=[row["id"]])
                yield {
                    "name": row.get("username") or row.get("device") or row["id"],
                    "is_current": row.get("current"),
                    "url": url,
                    "methods": methods_of(url),
                }

    def get_actions(self, view: Any, response: Response) -> list[dict[str, Any]]:
        actions = self.get_extra_actions(view, response.status_code) or {}
        return [{"name": name, "url": url, "methods": methods_of(url)} for name, url in actions.items()]


def methods_of(url: str) -> list[str]:
    """Return the methods of the viewset's route at that address."""
    path = urlsplit(url).path.removeprefix(get_script_prefix())
    route: Any = resolve(f"/{path}").func
    return [*route.actions]


def has_ended(request: Request) -> bool:
    """Return whether the request's pass is no longer valid, on a view that accepts passes."""
    is_asked = any(isinstance(authenticator, PassAuthentication) for authenticator in request.authenticators or ())
    return bool(is_asked and request.COOKIES.get(settings.SESSION_COOKIE_NAME) and not request.auth)
