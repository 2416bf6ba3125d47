from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.module_loading import import_string
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.settings import PEER


def live(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Guarded(APIView):
    def get(self, request: Request) -> Response:
        return Response({"id": request.user.pk})


class Open(APIView):
    """A view that does nothing, to measure the cost of any DRF view."""

    authentication_classes: Any = ()
    permission_classes: Any = ()

    def get(self, request: Request) -> Response:
        return Response({"id": 1})


class Stateless(Guarded):
    authentication_classes: Any = (import_string(PEER.stateless or PEER.guard),)


urlpatterns: list[Any] = [
    path("health/live", live),
    path("open", Open.as_view()),
    path("guarded", Guarded.as_view()),
    path("stateless", Stateless.as_view()),
    *PEER.urls(),
]
