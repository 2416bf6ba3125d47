from collections.abc import Callable
from functools import cached_property
from typing import Any

from django.urls.resolvers import RoutePattern, URLPattern

from . import views


class OptionalSlash(RoutePattern):
    """A path that matches with and without its trailing slash, so no POST is redirected."""

    @cached_property
    def bare(self) -> str:
        return str(self).removesuffix("/")

    def match(self, path: str) -> Any:
        return super().match(str(self)) if path.removesuffix("/") == self.bare else None


def path(route: str, view: Callable[..., Any], name: str) -> URLPattern:
    return URLPattern(OptionalSlash(route, name=name, is_endpoint=True), view, name=name)


app_name = "latchkey"

urlpatterns = [
    # The busiest first, since Django tries them in turn.
    path("api/token/refresh/", views.TokenRefreshView.as_view(), name="refresh_pair"),
    path("auth/refresh-token", views.RefreshView.as_view(), name="refresh"),
    path("api/token/", views.TokenObtainPairView.as_view(), name="obtain_pair"),
    path("auth/login", views.LoginView.as_view(), name="login"),
    path("api/token/blacklist/", views.TokenBlacklistView.as_view(), name="blacklist"),
    path("auth/logout", views.LogoutView.as_view(), name="logout"),
    path("auth/login/second-factor", views.SecondStepView.as_view(), name="second_step"),
    path("auth/session", views.SessionExchangeView.as_view(), name="exchange"),
    path("auth/logout-all", views.LogoutAllView.as_view(), name="logout_all"),
    path("auth/revoke", views.RevokeView.as_view(), name="revoke"),
    path("auth/introspect", views.IntrospectView.as_view(), name="introspect"),
    path("auth/ended", views.EndedView.as_view(), name="ended"),
    path("api/token/second-factor/", views.SecondStepPairView.as_view(), name="second_step_pair"),
    path("api/token/session/", views.SessionExchangePairView.as_view(), name="exchange_pair"),
    path("api/token/verify/", views.TokenVerifyView.as_view(), name="verify"),
    path(".well-known/jwks.json", views.KeySetView.as_view(), name="key_set"),
    path(".well-known/oauth-authorization-server", views.MetadataView.as_view(), name="metadata"),
]
