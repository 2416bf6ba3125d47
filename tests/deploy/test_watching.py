"""Alerts and dashboard, checked by promtool and by a real Prometheus that scrapes the image."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.conftest import Deployed
from tests.deploy.image import ROOT
from tests.server import free_port
from tests.tools import PROMETHEUS, PROMTOOL

RULES = ROOT / "deploy/prometheus/alerts.yml"
CONFIGURATION = ROOT / "deploy/prometheus/prometheus.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/latchkey.json").read_text())
TESTS = Path(__file__).with_name("alerts.test.yml")
PATIENCE = 60  # seconds
SCRAPER = "a-token-that-only-the-scraper-has"


def promtool(*arguments: object) -> str:
    command = [str(PROMTOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> dict[str, dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def expressions() -> list[str]:
    return [
        target["expr"].replace("$__rate_interval", "1m") for panel in DASHBOARD["panels"] for target in panel["targets"]
    ]


def test_alerts_fire_for_their_causes_only(tmp_path: Path) -> None:
    (tmp_path / "tests.yml").write_text(TESTS.read_text().replace("ALERTS", str(RULES)))
    promtool("test", "rules", tmp_path / "tests.yml")
    scenes = yaml.safe_load(TESTS.read_text())["tests"]
    fired = {case["alertname"] for scene in scenes for case in scene["alert_rule_test"] if "exp_alerts" in case}
    quiet = {case["alertname"] for case in scenes[0]["alert_rule_test"]}
    assert fired == quiet == alerts().keys()


def test_page_says_what_to_do_at_each_alert() -> None:
    page = (ROOT / "docs/watching.md").read_text()
    assert re.findall(r"(?m)^### (\w+)$", page) == [*alerts()]


def test_configuration_is_valid(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(SCRAPER)
    (tmp_path / "prometheus.yml").write_text(
        CONFIGURATION.read_text().replace("/etc/prometheus/latchkey-token", str(token))
    )
    (tmp_path / "alerts.yml").write_text(RULES.read_text())
    assert "11 rules found" in promtool("check", "config", tmp_path / "prometheus.yml")


@pytest.fixture
def ask(deployed: Deployed) -> Iterator[Any]:
    """Run a Prometheus that scrapes the image; yield a function that runs a query."""
    port = free_port()
    settings = deployed.settings | {
        "PUBLIC_URL": "https://auth.example.com",
        "TRUSTED_PROXIES": "0",
        "SECURE_SSL_REDIRECT": "off",
        "METRICS_TOKEN": SCRAPER,
    }
    server = f"127.0.0.1:{settings['PORT']}"
    with TemporaryDirectory(prefix="latchkey-prometheus-") as name:
        folder = Path(name)
        (folder / "token").write_text(SCRAPER)
        (folder / "alerts.yml").write_text(RULES.read_text())
        text = CONFIGURATION.read_text()
        for was, now in {
            "/etc/prometheus/latchkey-token": str(folder / "token"),
            "127.0.0.1:8000": server,
            "scrape_interval: 15s": "scrape_interval: 1s",
        }.items():
            assert was in text
            text = text.replace(was, now)
        (folder / "prometheus.yml").write_text(text)
        command = [
            str(PROMETHEUS),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        sink = subprocess.DEVNULL
        with deployed.image.serve(settings), subprocess.Popen(command, stdout=sink, stderr=sink) as process:

            def query(expression: str) -> list[dict[str, Any]]:
                url = f"http://127.0.0.1:{port}/api/v1/query"
                answer = httpx.get(url, params={"query": expression}, trust_env=False)
                result: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
                return result

            try:
                wait_for(lambda: query("up{job='latchkey'} == 1"))
                with httpx.Client(base_url=f"http://{server}", trust_env=False) as client:
                    use(client)
                yield query
            finally:
                process.kill()


def use(client: httpx.Client) -> None:
    """Do what the panels show: logins, wrong passwords, refreshes that repeat one token, and a made-up token."""
    body = {"username": "ada", "password": "the analytical engine"}
    cookie = client.post("/auth/register", json=body).cookies["refreshToken"]
    for _ in range(3):
        assert client.post("/api/token/", json=body).status_code == 200
        assert client.post("/api/token/", json=body | {"password": "a guess"}).status_code == 401
        answer = client.post("/auth/refresh-token", headers={"Cookie": f"refreshToken={cookie}"})
        assert answer.status_code == 200
        sleep(1.5)  # between two scrapes
    assert client.post("/auth/refresh-token", headers={"Cookie": "refreshToken=made-up"}).status_code == 401


def wait_for(fact: Any) -> None:
    deadline = monotonic() + PATIENCE
    while True:
        try:
            if fact():
                return
        except httpx.HTTPError:
            pass
        assert monotonic() < deadline
        sleep(0.2)


def test_every_panel_has_data(ask: Any) -> None:
    assert len(expressions()) > 10
    for expression in expressions():
        if "> 0" in expression:
            ask(expression)  # it shows only what happens
        else:
            wait_for(lambda expression=expression: ask(expression))
    # The last one may not be scraped yet.
    wait_for(lambda: ask("sum(latchkey_seconds_count{operation='refresh'}) == 4"))
    for rule in alerts().values():
        assert ask(rule["expr"]) == []
