from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path

from api import health
from config.errors import unknown_path

urlpatterns = [
    path("", include("config.pages")),
    path("", include("tokens.urls")),
    path("", include("accounts.urls")),
    path("api/", include("api.urls")),
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    *([path("", include("config.metrics"))] if settings.METRICS_TOKEN else []),
    path("admin/", admin.site.urls),
    re_path(r"^(?:api|auth)(?:/|$)", unknown_path),
]

handler400 = "config.errors.bad_request"
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"
