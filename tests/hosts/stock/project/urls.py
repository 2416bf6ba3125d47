import os

from django.contrib import admin
from django.urls import include, path
from rest_framework.decorators import api_view
from rest_framework.response import Response


@api_view()
def me(request):
    return Response({"username": request.user.get_username()})


urlpatterns = [
    path("", include(f"{os.environ.get('LATCHKEY', 'latchkey')}.urls")),
    path("admin/", admin.site.urls),
    path("me/", me),
]
