from django.urls import include, path
from django.views.generic import TemplateView
from rest_framework.routers import SimpleRouter

from . import views

app_name = "api"

router = SimpleRouter()
router.register("sessions", views.SessionViewSet, "session")
router.register("users", views.UserViewSet, "user")
router.register("security-events", views.SecurityEventViewSet, "security-event")

urlpatterns = [
    path("", views.RootView.as_view(), name="root"),
    path("me/", views.MeView.as_view(), name="me"),
    path("", include(router.urls)),
    path("schema/", views.SchemaView.as_view(), name="schema"),
    path("docs/", TemplateView.as_view(template_name="api/docs.html"), name="docs"),
]
