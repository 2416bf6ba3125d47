"""What is counted, who may read it, and whether it is right with several processes."""

import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import Request as HTTPRequest
from urllib.request import urlopen

import psutil
import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.http import HttpResponse, JsonResponse
from django.test import Client, RequestFactory
from django.urls import include, path
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

import config.gunicorn
from config import urls
from config.serving.metrics import EVENTS, Measuring, code_of, count
from tests.clients import PASSWORD, App, Browser
from tests.proof.wire import Request, by_body, together
from tests.server import serve
from tokens import kinds
from tokens.domain import events, sessions
from tokens.tokens import RefreshToken

TOKEN = "a-token-that-only-the-scraper-has"

urlpatterns = [path("", include("config.serving.metrics")), path("", include("config.urls"))]
handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500


@pytest.fixture
def opened(settings: Settings) -> None:
    settings.METRICS_TOKEN = TOKEN
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def a_kind_of_a_project() -> Iterator[kinds.Kind]:
    yield kinds.add("a_kind_of_a_project", "done")
    del kinds.TABLE["a_kind_of_a_project"]


def parse(text: str) -> dict[str, float]:
    """Return the counts: by kind of event, or by the counter's name if it counts only one thing."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        sample.labels.get("kind", sample.name): sample.value for sample in samples if sample.name.endswith("_total")
    }


@pytest.fixture
def scrape(opened: None) -> Callable[[], dict[str, float]]:
    """Return a function that returns the counts since the test began."""

    def total() -> dict[str, float]:
        return parse(Client().get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).content.decode())

    start = total()
    return lambda: {name: value - start.get(name, 0) for name, value in total().items() if value != start.get(name, 0)}


# Who may read it


def test_path_does_not_exist_unless_a_token_is_set() -> None:
    client = Client()
    for headers in ({}, {"authorization": "Bearer "}, {"authorization": f"Bearer {TOKEN}"}):
        for answer in (client.get("/metrics", headers=headers), client.post("/metrics/", headers=headers)):
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not found.", "code": "not_found"})


def test_metrics_have_the_prometheus_format(opened: None) -> None:
    answer = Client().get("/metrics/", headers={"authorization": f"bearer {TOKEN}", "accept": "application/json"})
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer["Cache-Control"] == "no-store"
    assert answer["X-Content-Type-Options"] == "nosniff"
    text = answer.content.decode()
    assert "# TYPE latchkey_security_events_total counter" in text
    assert "# TYPE latchkey_rotations_total counter" in text
    assert {*parse(text)} >= {*kinds.TABLE, "latchkey_rotations_total"}


@pytest.mark.parametrize("host", ["10.42.0.7:8000", "latchkey-7d9f.default.svc"])
def test_metrics_answer_for_any_host(opened: None, host: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "host": host}
    assert Client().get("/metrics", headers=headers).status_code == 200
    assert Client().get("/metrics", headers={**headers, "authorization": "Bearer wrong"}).status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YTpi", TOKEN, f"Token {TOKEN}"])
def test_requests_without_a_token_are_challenged(opened: None, header: str) -> None:
    answer = Client().get("/metrics", headers={"authorization": header})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith('Bearer realm="api"')
    assert "latchkey" not in answer.content.decode()


@pytest.mark.parametrize("token", [TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "ä", "\x80\xff"])
def test_wrong_token_is_refused(opened: None, token: str) -> None:
    answer = Client().get("/metrics", headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert answer["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


@pytest.mark.django_db
def test_access_token_does_not_open_metrics(opened: None, django_user_model: Any) -> None:
    django_user_model.objects.create_superuser("root", "root@example.com", PASSWORD)
    browser = Browser()
    assert browser.login("root").status_code == 200
    assert browser.get("/metrics").status_code == 401


def test_metrics_are_read_only(opened: None) -> None:
    answer = Client(enforce_csrf_checks=True).post("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


# What is counted


@pytest.mark.django_db(transaction=True)
def test_events_and_rotations_are_counted(django_user_model: Any, scrape: Callable[[], dict[str, float]]) -> None:
    django_user_model.objects.create_user("ann", "ann@example.com", PASSWORD)
    app = App()
    app.login()
    app.refresh()
    app.refresh()  # the same again, as it is young
    app.login("ann", "wrong")
    app.login("nobody", "wrong")
    app.blacklist(app.refresh_token)
    assert scrape() == {"login": 1, "latchkey_rotations_total": 1, "login_failed": 2, "logout": 1}


@pytest.mark.django_db(transaction=True)
def test_events_of_two_browsers_add_up(django_user_model: Any, scrape: Callable[[], dict[str, float]]) -> None:
    django_user_model.objects.create_user("ann", "ann@example.com", PASSWORD)
    laptop, phone = Browser(), Browser()
    for browser in (laptop, phone):
        browser.login()
    body = {"currentPassword": PASSWORD, "newPassword": "another password entirely"}
    assert laptop.post("/auth/password/change", body, laptop.access).status_code == 200
    assert phone.refresh().status_code == 401
    assert scrape() == {"login": 2, "password_changed": 1, "session_revoked": 1}


@pytest.mark.django_db(transaction=True)
def test_rolled_back_events_are_not_counted(
    django_user_model: Any, scrape: Callable[[], dict[str, float]], a_kind_of_a_project: kinds.Kind
) -> None:
    ann = django_user_model.objects.create_user("ann", "ann@example.com", PASSWORD)
    with transaction.atomic():
        events.announce(kinds.LOGIN, ann)
        assert scrape() == {}
        transaction.set_rollback(True)
    assert scrape() == {}
    with transaction.atomic():
        events.announce(kinds.LOGIN, ann)
        events.announce(a_kind_of_a_project, ann)
    assert scrape() == {"login": 1, "a_kind_of_a_project": 1}


def test_failed_count_is_logged_and_not_an_error(
    opened: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())  # type: ignore[no-untyped-call]
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    count(EVENTS, "never_heard_of")
    [record] = [record for record in caplog.records if record.name == "config.serving.metrics"]
    assert record.getMessage().startswith("A metric could not be counted: FileNotFoundError")


# Durations and refusals


@pytest.fixture
def measured(scrape: Callable[[], dict[str, float]], settings: Settings) -> Callable[[], dict[str, float]]:
    """Return a function that returns the durations and refusals since the test began."""
    settings.MIDDLEWARE = ["config.serving.metrics.Measuring", *settings.MIDDLEWARE]

    def total() -> dict[str, float]:
        text = Client().get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).content.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        named = {" ".join(sorted(sample.labels.values())): sample for sample in samples if sample.name in MEASURED}
        return {name: sample.value for name, sample in named.items()}

    start = total()
    return lambda: {name: value - start.get(name, 0) for name, value in total().items() if value != start.get(name, 0)}


MEASURED = ("latchkey_seconds_count", "latchkey_refusals_total")


@pytest.mark.django_db(transaction=True)
def test_logins_and_refreshes_are_measured_by_transport(
    django_user_model: Any, measured: Callable[[], dict[str, float]]
) -> None:
    django_user_model.objects.create_user("ann", "ann@example.com", PASSWORD)
    browser, app = Browser(), App()
    browser.login()
    app.login()
    for _ in range(2):
        browser.refresh()
        app.refresh()
    browser.get("/api/me/")
    assert measured() == {"login": 2, "refresh": 4}


@pytest.mark.django_db(transaction=True)
def test_refusals_are_counted_by_code(django_user_model: Any, measured: Callable[[], dict[str, float]]) -> None:
    django_user_model.objects.create_user("ann", "ann@example.com", PASSWORD)
    browser = Browser()
    browser.login(password="wrong")
    browser.post("/auth/login", {"username": "ann"})
    browser.post("/auth/register", {"username": "bob", "password": "x", "code": 1})
    browser.post("/auth/login", "[]", headers={"origin": "https://evil.example"})
    browser.refresh()
    browser.get("/api/nothing")
    Client().get("/nothing", headers={"accept": "text/html"})
    assert measured() == {
        "login": 3,
        "refresh": 1,
        "401 invalid_credentials": 1,
        "400 invalid": 2,
        "403 cross_site_request": 1,
        "401 refresh_token_missing": 1,
        "404 not_found": 1,
        "404 page": 1,
    }


def test_refusal_by_a_middleware_is_counted(measured: Callable[[], dict[str, float]]) -> None:
    Client().get("/api/me/", headers={"host": "evil.example"})
    assert measured() == {"400 bad_request": 1}


def test_refusal_with_a_list_body_is_counted(measured: Callable[[], dict[str, float]]) -> None:
    assert code_of(JsonResponse(["a"], safe=False, status=400)) == "invalid"
    assert code_of(JsonResponse({"code": ["This field is required."]}, status=400)) == "invalid"
    assert measured() == {}


def test_failed_measurement_does_not_fail_the_request(opened: None, caplog: pytest.LogCaptureFixture) -> None:
    broken = HttpResponse("{", content_type="application/json", status=418)
    assert Measuring(lambda request: broken)(RequestFactory().get("/")) is broken  # noqa: ARG005
    [record] = [record for record in caplog.records if record.name == "config.serving.metrics"]
    assert record.getMessage().startswith("A metric could not be counted: JSONDecodeError")


# Several processes


def counted(url: str) -> dict[str, float]:
    with urlopen(HTTPRequest(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}), timeout=30) as answer:
        return {name: value for name, value in parse(answer.read().decode()).items() if value}


def workers_of(url: str) -> list[psutil.Process]:
    port = url.rpartition(":")[2]
    [server] = [process for process in psutil.Process().children() if process.environ().get("PORT") == port]
    workers: list[psutil.Process] = server.children()
    return workers


def files_of(process: psutil.Process) -> set[Path]:
    """Return the files in which that process counts, if it has counted."""
    return {Path(file.path) for file in process.open_files() if file.path.endswith(f"counter_{process.pid}.db")}


def wait_for(fact: Callable[[], Any]) -> Any:
    deadline = monotonic() + 60
    while not (found := fact()) and monotonic() < deadline:
        sleep(0.05)
    assert found
    return found


class Crowd:
    """Sessions that are refreshed and ended in parallel, through the server at that address."""

    def __init__(self, url: str) -> None:
        self.url, self.sessions, self.events = url, 0, dict[str, float]()
        self.user = get_user_model()._default_manager.create_user("ann", "ann@example.com", PASSWORD)

    def live(self) -> None:
        tokens = [str(RefreshToken.of(sessions.start(self.user))) for _ in range(12)]
        answers = together(self.url, *map(by_body, tokens))
        answers += together(
            self.url, *(Request("POST", "/api/token/blacklist/", body={"refresh": token}) for token in tokens)
        )
        assert {answer.status for answer in answers} == {200}
        self.sessions += len(tokens)
        self.events = {"latchkey_rotations_total": self.sessions, "logout": self.sessions}


@pytest.fixture
def crowd(database_url: str) -> Iterator[Crowd]:
    public = "http://localhost:8000"  # the issuer is that of this process, which starts the sessions
    with serve(database_url, METRICS_TOKEN=TOKEN, WORKERS="3", THREADS="1", THROTTLING="off", PUBLIC_URL=public) as url:
        yield Crowd(url)


def test_counts_of_several_workers_add_up_and_outlive_them(crowd: Crowd) -> None:
    def counting() -> list[psutil.Process]:
        return [worker for worker in workers_of(crowd.url) if files_of(worker)]

    def live_until_two_count() -> bool:
        crowd.live()
        assert counted(crowd.url) == crowd.events
        return len(counting()) > 1

    wait_for(live_until_two_count)
    killed, ended, *_ = counting()
    [folder] = {file.parent for file in files_of(killed)}
    assert folder.stat().st_mode & 0o777 == 0o700
    killed.kill()
    ended.terminate()
    wait_for(lambda: not killed.is_running() and not ended.is_running() and len(workers_of(crowd.url)) == 3)
    assert counted(crowd.url) == crowd.events
    crowd.live()
    assert counted(crowd.url) == crowd.events


def test_counters_leave_no_files_behind(database_url: str) -> None:
    with serve(database_url, METRICS_TOKEN=TOKEN) as url:
        [server] = {worker.parent() for worker in workers_of(url)}
        [file] = files_of(server)
        assert file.exists()
    assert not file.parent.exists()


def test_lost_counter_file_is_no_error(crowd: Crowd) -> None:
    [server] = {worker.parent() for worker in workers_of(crowd.url)}
    [file] = files_of(server)
    for left in file.parent.iterdir():
        left.unlink()
    file.parent.rmdir()
    crowd.live()
    crowd.live()


def test_server_creates_and_removes_only_its_own_counter_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr("config.settings.METRICS_TOKEN", TOKEN)
    configuration = runpy.run_path(config.gunicorn.__file__)
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    configuration["remove"](str(folder), os.getpid() + 1)
    assert folder.is_dir()
    configuration["remove"](str(folder), os.getpid())
    assert not folder.exists()


def test_several_servers_share_a_configured_counter_folder(
    opened: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    answer = Client().get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.content) == (200, b"")
