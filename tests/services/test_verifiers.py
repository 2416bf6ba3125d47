"""The services in docs/other-services.md, which know only the issuer's URL."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients import claims_of, header_of
from tests.forgery import access_token, anybody, forge
from tests.server import ROOT, free_port
from tests.services import documents
from tests.services.wire import Client, call, running, sign_in

DOCUMENT = "other-services.md"
NODE = Path(__file__).with_name("node")

Verify = Callable[[str], str | None]
"""Returns the `sub` of a token that is accepted."""


def tokens_to_refuse(client: Client) -> dict[str, str]:
    claims, header = claims_of(client.access), header_of(client.access)
    protected, payload, signature = client.access.split(".")
    return {
        "refresh": client.refresh,
        "expired": access_token({**claims, "exp": claims["iat"] - 1}),
        "another audience": access_token({**claims, "aud": "https://other.example.com"}),
        "another issuer": access_token({**claims, "iss": "https://other.example.com"}),
        "unknown key": forge({**header, "kid": "unknown"}, claims, anybody),
        "another's key under our name": forge(header, claims, anybody),
        "another kind": access_token(claims, typ="JWT"),
        "tampered": f"{protected}.{payload[:-2]}AA.{signature}",
        "nonsense": "nonsense",
    }


def assert_verifies(verify: Verify, issuer: str, ann: Any) -> None:
    client = sign_in(issuer)

    assert verify(client.access) == str(ann.pk)
    for name, token in tokens_to_refuse(client).items():
        assert verify(token) is None, name


def program(*command: str) -> Verify:
    """Return a verifier that runs a program, which prints the `sub` or that the token is refused."""

    def verify(token: str) -> str | None:
        done = subprocess.run([*command, token], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        assert done.stderr.strip().splitlines()[-1].startswith("refused: "), done.stderr
        return None

    return verify


@pytest.mark.parametrize("name", ["verify_with_pyjwt.py", "verify_with_joserfc.py"])
def test_python_verifies(issuer: str, ann: Any, tmp_path: Path, name: str) -> None:
    documents.write(tmp_path, DOCUMENT, name, host=issuer)

    assert_verifies(program(sys.executable, str(tmp_path / name)), issuer, ann)


def test_node_verifies(issuer: str, ann: Any, tmp_path: Path) -> None:
    install_jose(tmp_path)
    documents.write(tmp_path, DOCUMENT, "verify-with-jose.mjs", host=issuer)

    assert_verifies(program("node", str(tmp_path / "verify-with-jose.mjs")), issuer, ann)


def install_jose(folder: Path) -> None:
    """Install Node's jose package, in the version of the lock file; skip the test where that can't be done."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("The verifier for Node was not run: it needs Node 20 or newer, with npm (https://nodejs.org).")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["npm failed"])[0]
        pytest.skip(f"The verifier for Node was not run: npm has to be able to install jose ({reason}).")


@pytest.fixture
def orders(issuer: str, tmp_path: Path) -> Any:
    """Another Django project, in a process of its own, with the stateless guard and no database."""
    documents.write(tmp_path, DOCUMENT, "settings.py", "urls.py", host=issuer)
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "gunicorn", f"--bind={url.removeprefix('http://')}"]
    environment = {
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "SECRET_KEY": "another key than the issuer's, which has nothing to do with the tokens",
    }
    with running([*command, "django.core.wsgi:get_wsgi_application()"], f"{url}/orders", tmp_path, **environment):
        yield url


def test_another_django_project_verifies(issuer: str, orders: str, ann: Any) -> None:
    def verify(token: str) -> str | None:
        answer = call("GET", f"{orders}/orders", Authorization=f"Bearer {token}")
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'
            return None
        assert (answer.status, answer.body) == (200, {"of": "ann"})
        return str(ann.pk)

    assert_verifies(verify, issuer, ann)
    assert call("GET", f"{orders}/orders").body["code"] == "not_authenticated"


def test_another_django_project_decides_by_the_groups(issuer: str, orders: str, ann: Any) -> None:
    client = sign_in(issuer)
    assert call("GET", f"{orders}/all-orders", Authorization=f"Bearer {client.access}").status == 403

    ann.groups.create(name="clerks")
    client.refreshed(issuer)

    assert call("GET", f"{orders}/all-orders", Authorization=f"Bearer {client.access}").status == 200


def test_other_projects_settings_pass_djangos_checks(tmp_path: Path) -> None:
    documents.write(tmp_path, DOCUMENT, "settings.py", "urls.py", host=documents.HOST)
    environment = {
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "SECRET_KEY": "another key than the issuer's, which has nothing to do with the tokens",
    }

    done = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "no issues" in done.stdout


def test_service_asks_and_revokes(issuer: str, ann: Any) -> None:
    if not shutil.which("curl"):
        pytest.skip("The commands of docs/other-services.md were not run: they need curl.")
    client = sign_in(issuer)
    ask, revoke, follow = documents.commands(DOCUMENT)

    def run(command: str) -> str:
        return subprocess.run(
            command.replace(documents.HOST, issuer),
            shell=True,
            env={"TOKEN": client.access, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert f'"sub":"{ann.pk}"' in run(ask)
    assert run(revoke) == ""
    assert run(ask) == '{"active":false}'
    assert f'"sid":"{claims_of(client.access)["sid"]}"' in run(follow)
