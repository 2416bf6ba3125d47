from django.urls import include, path
from latchkey.permissions import RecentSignIn
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response

from project.views import KnoxExchangeView


@api_view()
def me(request):
    return Response({"user": request.user.get_username()})


@api_view()
@permission_classes([IsAuthenticated, RecentSignIn])
def secret(request):
    return Response({})


urlpatterns = [
    path("", include("latchkey.urls")),
    path("auth/knox/", KnoxExchangeView.as_view()),
    path("me/", me),
    path("secret/", secret),
]
