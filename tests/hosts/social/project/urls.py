from django.urls import include, path
from rest_framework.decorators import api_view
from rest_framework.response import Response


@api_view()
def me(request):
    return Response({"user": request.user.get_username(), "amr": request.auth["amr"]})


urlpatterns = [
    path("", include("latchkey.urls")),
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
    path("me", me),
]
