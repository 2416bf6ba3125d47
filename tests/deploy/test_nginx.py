"""deploy/nginx.conf, in a real nginx with a self-signed certificate, in front of the image."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
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
from tests.tools import NGINX

SITE = (ROOT / "deploy/nginx.conf").read_text()
LOCATION = re.compile(r"(?ms)^    location / \{\n.*?^    \}\n")
ONE_ORIGIN = re.findall(r"(?ms)^```nginx\n(.*?)^```", (ROOT / "docs/hosting.md").read_text())[0]
PASS = "proxy_pass http://127.0.0.1:8000"
AROUND = """
{user}
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/latchkey.conf;
}}
"""


class Nginx:
    def __init__(self, folder: Path, server: str, certificate: Certificate, site: str = SITE) -> None:
        self.http, self.https = free_port(), free_port()
        self.url = f"https://localhost:{self.https}"
        user = "user root;" if os.geteuid() == 0 else ""
        changed = {
            "listen 80": f"listen 127.0.0.1:{self.http}",
            "listen 443": f"listen 127.0.0.1:{self.https}",
            "http://127.0.0.1:8000": f"http://127.0.0.1:{server}",
            "auth.example.com;": "localhost;",
            "/etc/letsencrypt/live/auth.example.com": str(certificate.chain.parent),
            **({"/srv/front-end": str(folder)} if "/srv/front-end" in site else {}),
        }
        site = re.sub(r"(?m)^ *listen \[::\].*\n", "", site)
        for was, now in changed.items():
            assert was in site
            site = site.replace(was, now)
        (folder / "latchkey.conf").write_text(site)
        (folder / "nginx.conf").write_text(AROUND.format(user=user, folder=folder))
        self.command = [str(NGINX), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


@pytest.fixture
def behind_nginx(deployed: Deployed, certificate: Certificate) -> Iterator[Nginx]:
    with TemporaryDirectory(prefix="latchkey-nginx-") as folder:
        nginx = Nginx(Path(folder), deployed.settings["PORT"], certificate)
        with (
            deployed.image.serve(deployed.settings | {"PUBLIC_URL": nginx.url}),
            run(nginx.command, nginx.url, certificate),
        ):
            yield nginx


def test_clone_works_behind_nginx_over_tls(behind_nginx: Nginx, certificate: Certificate, deployed: Deployed) -> None:
    assert_sessions_live_and_end(behind_nginx.url, certificate)
    assert_chunked_body_arrives(behind_nginx.url, certificate)
    assert_long_body_is_refused_as_json(behind_nginx.url, certificate)
    assert_pages_are_whole(behind_nginx.url, certificate)

    plain = httpx.get(f"http://localhost:{behind_nginx.http}/api/me/?a=b", trust_env=False)
    assert (plain.status_code, plain.headers["Location"]) == (301, "https://localhost/api/me/?a=b")
    # A request over plain http that bypasses nginx is redirected to https.
    past = httpx.get(f"http://localhost:{deployed.settings['PORT']}/api/me/", trust_env=False)
    assert past.status_code == 301
    # Probes reach the server directly, by its address.
    for path in ("live", "ready"):
        probe = httpx.get(f"http://127.0.0.1:{deployed.settings['PORT']}/health/{path}", headers={"Host": "10.42.0.7"})
        assert (probe.status_code, probe.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("to", [PASS, f"{PASS}/"], ids=["path passed on", "path taken off"])
def test_server_shares_an_origin_with_a_front_end(deployed: Deployed, certificate: Certificate, to: str) -> None:
    site = LOCATION.sub(lambda _: ONE_ORIGIN, SITE).replace(PASS, to)
    with TemporaryDirectory(prefix="latchkey-nginx-") as name:
        folder = Path(name)
        nginx = Nginx(folder, deployed.settings["PORT"], certificate, site)
        (folder / "index.html").write_text("The front end")
        settings = deployed.settings | {"PUBLIC_URL": f"{nginx.url}/sso"}
        with deployed.image.serve(settings), run(nginx.command, nginx.url, certificate):
            trusted = certificate.trusted()
            assert httpx.get(f"{nginx.url}/any/page", verify=trusted, trust_env=False).text == "The front end"
            assert_sessions_live_and_end(nginx.url, certificate, "/sso")
            assert_pages_are_whole(nginx.url, certificate, "/sso")
