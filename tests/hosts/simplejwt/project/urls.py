from django.urls import path
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.views import TokenBlacklistView, TokenObtainPairView, TokenRefreshView

from project.logout import LogoutEverywhere


class NamedSerializer(TokenObtainPairSerializer):
    @classmethod
    def get_token(cls, user):
        token = super().get_token(user)
        token["name"] = user.username.title()
        return token


@api_view()
@permission_classes([IsAuthenticated])
def me(request):
    return Response({"username": request.user.username, "name": request.auth["name"]})


urlpatterns = [
    path("api/token/", TokenObtainPairView.as_view(serializer_class=NamedSerializer)),
    path("api/token/refresh/", TokenRefreshView.as_view()),
    path("api/token/blacklist/", TokenBlacklistView.as_view()),
    path("me/", me),
    path("logout-everywhere/", LogoutEverywhere.as_view()),
]
