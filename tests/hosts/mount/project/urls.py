from django.urls import include, path
from latchkey.exceptions import InvalidToken, TokenError
from latchkey.serializers import TokenObtainPairSerializer, TokenRefreshSerializer
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.response import Response


@api_view(["GET", "POST"])
def me(request, **kwargs):
    return Response({"username": request.user.get_username(), "address": request.auth.session.ip_address})


def open_view(serializer):
    @api_view(["POST"])
    @authentication_classes([])
    @permission_classes([])
    def view(request, **kwargs):
        given = serializer(data=request.data, context={"request": request})
        try:
            given.is_valid(raise_exception=True)
        except TokenError as error:
            raise InvalidToken(error.args[0]) from error
        return Response(given.validated_data)

    return view


urlpatterns = [
    path("shop/<str:version>/", include("latchkey.urls", namespace="v")),
    path("me/", me),
    path("own/login/", open_view(TokenObtainPairSerializer)),
    path("own/refresh/", open_view(TokenRefreshSerializer)),
]
