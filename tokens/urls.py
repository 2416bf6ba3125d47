from django.urls import path

from . import views

app_name = "latchkey"

urlpatterns = [
    path("auth/login", views.LoginView.as_view(), name="login"),
    path("auth/login/second-factor", views.SecondStepView.as_view(), name="second_step"),
    path("auth/session", views.SessionExchangeView.as_view(), name="exchange"),
    path("auth/refresh-token", views.RefreshView.as_view(), name="refresh"),
    path("auth/logout", views.LogoutView.as_view(), name="logout"),
    path("auth/logout-all", views.LogoutAllView.as_view(), name="logout_all"),
    path("auth/revoke", views.RevokeView.as_view(), name="revoke"),
    path("auth/introspect", views.IntrospectView.as_view(), name="introspect"),
    path("auth/ended", views.EndedView.as_view(), name="ended"),
    path("api/token/", views.TokenObtainPairView.as_view(), name="obtain_pair"),
    path("api/token/second-factor/", views.SecondStepPairView.as_view(), name="second_step_pair"),
    path("api/token/session/", views.SessionExchangePairView.as_view(), name="exchange_pair"),
    path("api/token/refresh/", views.TokenRefreshView.as_view(), name="refresh_pair"),
    path("api/token/verify/", views.TokenVerifyView.as_view(), name="verify"),
    path("api/token/blacklist/", views.TokenBlacklistView.as_view(), name="blacklist"),
    path(".well-known/jwks.json", views.KeySetView.as_view(), name="key_set"),
    path(".well-known/oauth-authorization-server", views.MetadataView.as_view(), name="metadata"),
]
