"""deploy/Caddyfile, in a real Caddy with a self-signed certificate, in front of the image."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.deploy.conftest import Deployed
from tests.deploy.image import ROOT
from tests.deploy.proxies import (
    Certificate,
    assert_chunked_body_arrives,
    assert_long_body_is_refused_as_json,
    assert_pages_are_whole,
    assert_sessions_live_and_end,
    run,
)
from tests.server import free_port
from tests.tools import CADDY

CADDYFILE = ROOT / "deploy/Caddyfile"


@pytest.fixture
def behind_caddy(deployed: Deployed, certificate: Certificate) -> Iterator[str]:
    https, http = free_port(), free_port()
    url = f"https://localhost:{https}"
    changed = {
        "{\n\tservers {": f"{{\n\tadmin off\n\thttp_port {http}\n\tservers {{",
        "{$DOMAIN} {\n": f"{{$DOMAIN}} {{\n\tbind 127.0.0.1\n\ttls {certificate.chain} {certificate.key}\n",
        "server:8000": f"127.0.0.1:{deployed.settings['PORT']}",
    }
    text = CADDYFILE.read_text()
    for was, now in changed.items():
        assert was in text
        text = text.replace(was, now)
    with TemporaryDirectory(prefix="latchkey-caddy-") as folder:
        Path(folder, "Caddyfile").write_text(text)
        command = [str(CADDY), "run", "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile"]
        with (
            deployed.image.serve(deployed.settings | {"PUBLIC_URL": url}),
            run(command, url, certificate, DOMAIN=f"localhost:{https}", HOME=folder),
        ):
            yield url


def test_server_works_behind_caddy_over_tls(behind_caddy: str, certificate: Certificate) -> None:
    assert_sessions_live_and_end(behind_caddy, certificate)
    assert_chunked_body_arrives(behind_caddy, certificate)
    assert_long_body_is_refused_as_json(behind_caddy, certificate)
    assert_pages_are_whole(behind_caddy, certificate)


def test_caddyfile_is_valid_and_in_shape() -> None:
    for command in (["validate", "--adapter", "caddyfile", "--config"], ["fmt", "--diff"]):
        done = subprocess.run(
            [str(CADDY), *command, str(CADDYFILE)],
            env={"DOMAIN": "auth.example.com", "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
