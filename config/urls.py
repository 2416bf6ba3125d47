from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path

from api import health
from config.serving.errors import unknown_path

urlpatterns = [
    path("api/", include("api.urls")),  # first, since Django tries every path before the right one
    path("", include("config.serving.pages")),
    path("", include("tokens.urls")),
    path("", include("accounts.urls")),
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    *([path("", include("config.serving.metrics"))] if settings.METRICS_TOKEN else []),
    path("admin/", admin.site.urls),
    re_path(r"^(?:api|auth)(?:/|$)", unknown_path),
]

handler400 = "config.serving.errors.bad_request"
handler403 = "config.serving.errors.permission_denied"
handler404 = "config.serving.errors.not_found"
handler500 = "config.serving.errors.server_error"
