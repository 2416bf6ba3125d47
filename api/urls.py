from django.urls import include, path
from rest_framework.routers import SimpleRouter

from . import sign_in_page, views

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
    path("sign-in/", sign_in_page.SignInView.as_view(), name="sign_in"),
    path("sign-out/", sign_in_page.sign_out, name="sign_out"),
    path("docs/", views.DocsView.as_view(), name="docs"),
]
