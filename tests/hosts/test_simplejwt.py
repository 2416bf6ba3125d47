"""A project that signs its users in with SimpleJWT moves over, as docs/migrating.md says."""

import json
import re
from typing import Any

import pytest

from tests.hosts.conftest import Host, clients, shown


def ask(path: str, token: str = "", **body: str) -> tuple[str, list[Any], dict[str, Any]]:
    return "ask", [path, token], body


def refresh(token: str) -> tuple[str, list[Any], dict[str, Any]]:
    return ask("/api/token/refresh/", refresh=token)


def rewrite(host: Host, file: str, *changes: tuple[str, str]) -> None:
    path = host.folder / "project" / file
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.usefixtures("database")
def test_nobody_is_signed_out_and_each_step_can_be_undone(host: Host) -> None:
    host.manage("migrate", "-v0")
    login = ask("/api/token/", username="ann", password="correct horse")
    _, phone, laptop, blacklisted, left, other = [
        answer and answer[1]
        for answer in clients(
            host,
            ("sign_up", ["ann", "bob"], {}),
            *[login] * 4,
            ask("/api/token/", username="bob", password="correct horse"),
        )
    ]
    assert clients(host, ask("/api/token/blacklist/", refresh=blacklisted["refresh"])) == [[200, {}]]

    # The command lists what has to change, until it is changed.
    rewrite(
        host,
        "settings.py",
        ('    "rest_framework_simplejwt.token_b', '    "latchkey",\n    "rest_framework_simplejwt.token_b'),
    )
    found = host.manage("checksimplejwt", fails=True)
    for place in (r"logout\.py:3: BlacklistedToken", r"urls\.py:\d+: Import latchkey\.serializers"):
        assert re.search(rf"project/{place}", found)
    assert re.search(r"project/settings\.py:\d+: REST_FRAMEWORK\['DEFAULT_AUTHENTICATION_CLASSES'\]", found)
    assert "/api/token/refresh/ is rest_framework_simplejwt.views.TokenRefreshView" in found
    before = {name: (host.folder / "project" / name).read_text() for name in ("settings.py", "urls.py", "logout.py")}

    rewrite(host, "urls.py", ("rest_framework_simplejwt", "latchkey"))
    (host.folder / "project/logout.py").write_text(shown("Sign out everywhere", "python"))
    rewrite(
        host,
        "settings.py",
        ("rest_framework_simplejwt.authentication", "latchkey.authentication"),
        ('SIMPLE_JWT = {"REFRESH_TOKEN_LIFETIME": timedelta(days=7), "BLACKLIST_AFTER_ROTATION": True}\n', ""),
        ("from datetime import timedelta\n", ""),
    )
    with (host.folder / "project/settings.py").open("a") as file:
        file.write(shown("3. Change the project", "python").replace("2027", "2127"))
        file.write(shown("5. Watch the exchanges", "python"))
    assert "Nothing is left to change." in host.manage("checksimplejwt")
    host.manage("migrate", "-v0")
    host.manage("check", "--fail-level", "WARNING")

    # Everyone is still signed in. Users who were signed out still are.
    log: list[str] = []
    me, renewed, again, refused, everywhere = clients(
        host,
        ask("/me/", phone["access"]),
        refresh(phone["refresh"]),
        refresh(phone["refresh"]),
        refresh(blacklisted["refresh"]),
        ask("/logout-everywhere/", other["access"]),
        log=log,
    )
    exchanged = [json.loads(line) for line in log if '"legacy_exchanged"' in line]
    assert [*exchanged[0]] == [*json.loads(shown("5. Watch the exchanges", "json"))]
    assert len(exchanged) == 1
    assert me == [200, {"username": "ann", "name": "Ann"}]
    assert (renewed[0], again[1]["refresh"], everywhere) == (200, renewed[1]["refresh"], [204, None])
    assert (refused[0], refused[1]["code"]) == (401, "token_revoked")
    me, ended, theirs = clients(
        host, ask("/me/", renewed[1]["access"]), refresh(other["refresh"]), ask("/me/", other["access"])
    )
    assert me == [200, {"username": "ann", "name": "Ann"}]
    assert ended[1]["code"] == theirs[1]["code"] == "token_revoked"

    # The move is undone: users whose tokens were not exchanged are still signed in with SimpleJWT.
    after = {name: (host.folder / "project" / name).read_text() for name in before}
    for name, text in before.items():
        (host.folder / "project" / name).write_text(text)
    assert clients(host, refresh(laptop["refresh"]), ask("/me/", laptop["access"]))[1][0] == 200
    for name, text in after.items():
        (host.folder / "project" / name).write_text(text)

    # The window is closed, and the tables are dropped with rows in them.
    until = re.search(r"TOKENS_LEGACY = \{.*?^\}\n", after["settings.py"], re.DOTALL | re.MULTILINE)
    assert until
    rewrite(host, "settings.py", (until[0], ""), ('    "rest_framework_simplejwt.token_blacklist",\n', ""))
    clients(host, ("run", [shown("7. Drop the tables of the blacklist", "sql")], {}))
    host.manage("remove_stale_contenttypes", "--include-stale-apps", "--noinput")
    host.manage("check", "--fail-level", "WARNING")
    late, me, _ = clients(host, refresh(left["refresh"]), ask("/me/", renewed[1]["access"]), ("delete", ["bob"], {}))
    assert (late[0], me[0]) == (401, 200)
