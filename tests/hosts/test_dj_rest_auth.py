"""A project whose users dj-rest-auth signs in moves over, as docs/migrating.md says."""

from tests.hosts.conftest import Host, shown


def test_users_of_dj_rest_auth_stay_signed_in(host: Host) -> None:
    found = host.manage("checksimplejwt", fails=True)
    assert "REST_FRAMEWORK['DEFAULT_AUTHENTICATION_CLASSES'] names dj_rest_auth.jwt_auth.JWTCookieAuth" in found
    assert "Set JWT_TOKEN_CLAIMS_SERIALIZER" in found
    assert "urls: /dj-rest-auth/logout/? is dj_rest_auth.views.LogoutView: its logout ends no session." in found

    guard, views, settings_, urls = (shown("dj-rest-auth", "python", count) for count in range(4))
    (host.folder / "project").rename(host.folder / "shop")
    shop = host.folder / "shop"
    (shop / "guard.py").write_text(guard)
    (shop / "views.py").write_text(views)
    text = (shop / "settings.py").read_text().replace("project.urls", "shop.urls")
    text = text[: text.index("REST_FRAMEWORK = ")] + f"from datetime import UTC, datetime\n\n{settings_}"
    text += 'REST_AUTH |= {"SESSION_LOGIN": False, "TOKEN_MODEL": None, "JWT_AUTH_COOKIE_USE_CSRF": True}\n'
    text += 'SIMPLE_JWT = {"ROTATE_REFRESH_TOKENS": True}\n'
    (shop / "settings.py").write_text(text.replace("2027", "2127"))
    text = (shop / "urls.py").read_text()
    text = text[: text.index("urlpatterns")] + urls.replace("urlpatterns = [", "urlpatterns = [path('me/', me),")
    (shop / "urls.py").write_text(text)
    host.environment["DJANGO_SETTINGS_MODULE"] = "shop.settings"

    assert "Nothing is left to change." in host.manage("checksimplejwt")
    host.test()
