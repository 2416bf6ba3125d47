from django.urls import include, path
from rest_framework.decorators import api_view
from rest_framework.response import Response


@api_view()
def me(request):
    return Response({"username": str(request.user.get_username())})


urlpatterns = [path("", include("latchkey.urls")), path("me/", me)]
