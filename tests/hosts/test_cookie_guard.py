"""A project that keeps SimpleJWT's tokens in cookies moves over, as docs/migrating.md says."""

import subprocess
from typing import Any

import pytest

from tests.hosts.conftest import Host, clients, shown


def browse(path: str, cookies: dict[str, str], method: str = "POST", **body: str) -> tuple[Any, ...]:
    return "browse", [path, cookies, method], body


@pytest.mark.usefixtures("database")
def test_cookies_stay_signed_in(host: Host) -> None:
    project = host.folder / "project"
    host.manage("migrate", "-v0")
    login = browse("/login/", {}, username="ann", password="correct horse")
    _, *browsers = clients(host, ("sign_up", ["ann"], {}), *[login] * 3)
    kept, renewed, left = [cookies for _, _, cookies in browsers]
    assert clients(host, browse("/logout/", left), browse("/me/", kept, "GET"))[1][0] == 200

    # Replace SimpleJWT's names, and then what the command still finds.
    blacklist = '    "rest_framework_simplejwt.token_blacklist"'
    text = (project / "settings.py").read_text().replace(blacklist, f'    "latchkey",\n{blacklist}')
    text += shown("3. Change the project", "python").replace("2027", "2127").replace("SIMPLE_JWT =", "SIMPLE_JWT |=")
    (project / "settings.py").write_text(text)
    replacement = "git init --quiet && git add project && " + shown("3. Change the project", "sh")
    subprocess.run(["sh", "-c", replacement], cwd=host.folder, check=True)
    found = host.manage("checksimplejwt", fails=True)
    assert "1 left to change." in found
    assert "project/views.py:5: api_settings is imported from rest_framework_simplejwt.settings." in found
    assert "RefreshToken.lifetime of latchkey.tokens" in found
    text = (project / "views.py").read_text().replace("api_settings.REFRESH_TOKEN_LIFETIME", "RefreshToken.lifetime")
    text = text.replace("from rest_framework_simplejwt.settings import api_settings\n", "")
    (project / "views.py").write_text(text)
    assert "Nothing is left to change." in host.manage("checksimplejwt")
    host.manage("migrate", "-v0")
    host.manage("check", "--fail-level", "WARNING")

    # Users who were signed in still are, after a refresh. Users who had signed out are not.
    old, (status, _, renewed), lost, out = clients(
        host,
        browse("/me/", kept, "GET"),
        browse("/refresh/", renewed),
        browse("/refresh/", renewed),
        browse("/refresh/", left),
    )
    assert (old[0], status, lost[2]["refresh"], out[0]) == (401, 200, renewed["refresh"], 401)

    # The guard of the page does the same, and keeps other sites out.
    (project / "guard.py").write_text(shown("A cookie guard", "python"))
    me, forged, (_, _, kept), _, ended = clients(
        host,
        browse("/me/", renewed, "GET"),
        browse("/me/", renewed),
        browse("/refresh/", kept),
        browse("/logout/", renewed),
        browse("/me/", renewed, "GET"),
    )
    assert me[:2] == [200, {"username": "ann"}]
    assert (forged[0], ended[0], ended[1]["code"]) == (403, 401, "token_revoked")
    assert clients(host, browse("/me/", kept, "GET"))[0][0] == 200
