"""Whether the server lives, and whether it can do its work. For load balancers, so without a sign-in."""

from typing import Any

from django.db import connection
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tokens.http.operations import Operation
from tokens.views import AlwaysJSON

from .responses import Status


class HealthView(APIView):
    cache_control = "no-store"
    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AlwaysJSON

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(*args, **kwargs)
        response["Cache-Control"] = self.cache_control
        return response


class LiveView(HealthView):
    operations = {"get": Operation("live", "Check that the process runs", {200: Status}, database=False)}

    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})


class ReadyView(HealthView):
    operations = {"get": Operation("ready", "Check that the database responds", {200: Status})}

    def get(self, request: Request) -> Response:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return Response({"status": "ok"})


live = LiveView.as_view()
ready = ReadyView.as_view()
