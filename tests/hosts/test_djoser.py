"""A project whose users djoser signs in moves over, as docs/migrating.md says."""

from tests.hosts.conftest import Host, shown


def test_users_of_djoser_stay_signed_in(host: Host) -> None:
    host.manage("makemigrations", "people")
    found = host.manage("checksimplejwt", fails=True)
    for name in ("create", "refresh", "verify"):
        assert f"urls: /auth/jwt/{name}/? is rest_framework_simplejwt.views.Token" in found

    project = host.folder / "project"
    text = (project / "settings.py").read_text().replace("rest_framework_simplejwt.auth", "latchkey.auth")
    text += shown("3. Change the project", "python").replace("SIMPLE_JWT =", "SIMPLE_JWT |=")
    (project / "settings.py").write_text(text.replace("2027", "2127"))
    text = (project / "urls.py").read_text().replace('    path("auth/", include("djoser.urls.jwt")),\n', "")
    (project / "urls.py").write_text(text + shown("djoser", "python").replace("urlpatterns =", "urlpatterns +="))

    assert "Nothing is left to change." in host.manage("checksimplejwt")
    host.test()
