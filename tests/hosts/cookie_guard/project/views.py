from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.exceptions import InvalidToken, TokenError
from rest_framework_simplejwt.serializers import TokenRefreshSerializer
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView


class Cookies:
    def finalize_response(self, request, response, *args, **kwargs):
        for name in ("access", "refresh"):
            if name in response.data:
                max_age = api_settings.REFRESH_TOKEN_LIFETIME
                response.set_cookie(name, response.data.pop(name), max_age=max_age, httponly=True)
        return super().finalize_response(request, response, *args, **kwargs)


class CookieRefreshSerializer(TokenRefreshSerializer):
    refresh = None

    def validate(self, attrs):
        attrs["refresh"] = self.context["request"].COOKIES.get("refresh")
        if not attrs["refresh"]:
            raise InvalidToken("No cookie holds a refresh token.")
        return super().validate(attrs)


class LoginView(Cookies, TokenObtainPairView):
    pass


class RefreshView(Cookies, TokenRefreshView):
    serializer_class = CookieRefreshSerializer


class LogoutView(APIView):
    authentication_classes = []

    def post(self, request):
        try:
            RefreshToken(request.COOKIES.get("refresh", "")).blacklist()
        except TokenError as error:
            raise InvalidToken from error
        return Response({})


class MeView(APIView):
    def get(self, request):
        return Response({"username": request.user.get_username()})

    post = get
