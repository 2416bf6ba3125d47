from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.utils.module_loading import import_string
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.views import TokenBlacklistView, TokenObtainPairView, TokenRefreshView

from benchmarks.settings import LATCHKEY, STATELESS


def live(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Guarded(APIView):
    def get(self, request: Request) -> Response:
        return Response({"id": request.user.pk})


class Stateless(Guarded):
    authentication_classes: Any = (import_string(STATELESS),)


urlpatterns: list[Any] = [
    path("health/live", live),
    path("guarded", Guarded.as_view()),
    path("stateless", Stateless.as_view()),
]
if LATCHKEY:
    urlpatterns.append(path("", include("tokens.urls")))
else:
    urlpatterns += [
        path("api/token/", TokenObtainPairView.as_view()),
        path("api/token/refresh/", TokenRefreshView.as_view()),
        path("api/token/blacklist/", TokenBlacklistView.as_view()),
    ]
