"""The stateless guard follows the issuer's feed of ended sessions."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import enumerate as enumerate_threads
from time import monotonic, sleep
from typing import Any

import pytest
from pytest_django import Settings

from tests.publisher import Publisher, publishing
from tests.tokens.test_stateless import ask
from tests.tokens.test_stateless import urlpatterns as guards
from tests.urls_tokens import urlpatterns as project
from tokens.domain import sessions
from tokens.http import following
from tokens.http.following import FeedUnreachable, Follower
from tokens.models import Reason, Session
from tokens.tokens import AccessToken

urlpatterns = [*project, *guards]

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

SID = "019f0000-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Poll ten times as often, and leave no thread behind."""
    monkeypatch.setattr(following, "RETRY", 0.1)
    following.follower.cache_clear()
    yield
    monkeypatch.setattr(following, "IDLE", -1)
    for thread in enumerate_threads():
        if thread.name == "ended sessions":
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def issuer() -> Iterator[Publisher]:
    with publishing() as publisher:
        tell(publisher)
        yield publisher


def tell(publisher: Publisher, *ended: Any, **changes: Any) -> None:
    body = {"ended": [{"sid": sid} for sid in ended], "next": "1-1", "interval": 0.1, **changes}
    publisher.body = json.dumps(body).encode()


def address(publisher: Publisher) -> str:
    return publisher.url.replace("http://", "http://bill%3Aing:a%20secret@")


def soon(holds: Callable[[], bool]) -> bool:
    deadline = monotonic() + 30
    while not holds() and monotonic() < deadline:
        sleep(0.02)
    return holds()


def test_ended_session_is_refused_within_the_interval(
    ann: Any, settings: Settings, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokens.domain.feed.INTERVAL", 1)
    settings.TOKENS_INTROSPECTION_CREDENTIALS = {"billing": "a secret"}
    token = str(AccessToken.for_user(ann))
    settings.TOKENS_ENDED_URL = f"{live_server.url}/auth/ended".replace("http://", "http://billing:a%20secret@")
    assert ask(token).status_code == 200

    sessions.revoke(Session.objects.get(), Reason.LOGOUT)

    assert soon(lambda: ask(token).status_code == 401)
    assert ask(token).data["code"] == "token_revoked"


@pytest.mark.parametrize("max_age", [timedelta(seconds=10), None])
def test_unread_feed_is_an_outage_unless_optional(
    ann: Any, settings: Settings, issuer: Publisher, max_age: timedelta | None, caplog: pytest.LogCaptureFixture
) -> None:
    settings.TOKENS_ENDED_URL, settings.TOKENS_ENDED_MAX_AGE = address(issuer), max_age
    issuer.status = 500
    token = str(AccessToken.for_user(ann))

    response = ask(token)

    assert response.status_code == (503 if max_age else 200)
    if max_age:
        assert response.data["code"] == "unavailable"
    assert soon(lambda: issuer.requests > 2)
    assert [record.message for record in caplog.records if "feed" in record.message] == [
        f"The feed of ended sessions {issuer.url} can't be read: <HTTPError 500: 'Internal Server Error'>"
    ]


@pytest.fixture
def an_hour_passes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that moves the clock until the last read is a second too old."""
    settings.TOKENS_ENDED_MAX_AGE = timedelta(hours=1)
    passed = [0]
    monkeypatch.setattr(following, "monotonic", lambda: monotonic() + sum(passed))
    return lambda: passed.append(3601)


def is_out(follower: Follower) -> bool:
    try:
        return follower.has_ended(SID)
    except FeedUnreachable:
        return True


def test_silent_feed_is_an_outage_after_a_while(issuer: Publisher, an_hour_passes: Callable[[], None]) -> None:
    follower = Follower(address(issuer))
    assert not follower.has_ended(SID)
    issuer.status, before = 500, issuer.requests
    assert soon(lambda: issuer.requests > before + 1)
    assert not follower.has_ended(SID)
    an_hour_passes()
    with pytest.raises(FeedUnreachable):
        follower.has_ended(SID)
    issuer.status = 200
    assert soon(lambda: not is_out(follower))


def test_ended_sessions_are_remembered_through_an_outage(settings: Settings, issuer: Publisher) -> None:
    settings.TOKENS_ENDED_MAX_AGE = timedelta()
    tell(issuer, SID)
    follower = Follower(address(issuer))
    assert follower.has_ended(SID)
    issuer.status = 500
    assert soon(lambda: issuer.requests > 3)
    assert follower.has_ended(SID)


def test_reader_continues_from_its_cursor(issuer: Publisher) -> None:
    issuer.headers = {"ETag": 'W/"x"'}
    follower = Follower(address(issuer))
    assert not follower.has_ended(SID)
    assert soon(lambda: issuer.requests > 2)
    (first, sent), (second, conditional) = issuer.asked[:2]
    assert (first, second) == ("/.well-known/jwks.json", "/.well-known/jwks.json?after=1-1")
    assert sent["Authorization"] == "Basic " + b64encode(b"bill:ing:a secret").decode()
    assert "If-None-Match" not in sent
    assert conditional["If-None-Match"] == 'W/"x"'


def test_unchanged_feed_counts_as_read(issuer: Publisher, an_hour_passes: Callable[[], None]) -> None:
    follower = Follower(address(issuer))
    assert not follower.has_ended(SID)
    issuer.status, issuer.body = 304, b""
    an_hour_passes()
    assert soon(lambda: not is_out(follower))


@pytest.mark.parametrize("status", [400, 410])
def test_reader_with_a_refused_cursor_starts_over(issuer: Publisher, status: int) -> None:
    follower = Follower(address(issuer))
    assert not follower.has_ended(SID)
    issuer.status = status
    assert soon(lambda: "?" not in issuer.asked[-1][0] and len(issuer.asked) > 2)
    issuer.status = 200
    tell(issuer, SID)
    assert soon(lambda: follower.has_ended(SID))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b"[" * 100_000,
        b"{}",
        b'{"ended": 1, "next": "", "interval": 5}',
        json.dumps({"ended": [{"sid": str(number)} for number in range(4)], "next": "", "interval": 5}).encode(),
        b" " * 5000,
    ],
)
def test_malformed_feed_is_an_outage(issuer: Publisher, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setattr(following, "MAX_ENDED", 3)
    monkeypatch.setattr(following, "FEED_LENGTH", 4000)
    issuer.body = body
    with pytest.raises(FeedUnreachable):
        Follower(address(issuer)).has_ended(SID)


def test_session_is_forgotten_once_its_tokens_have_expired(settings: Settings, issuer: Publisher) -> None:
    settings.SIMPLE_JWT = {"ACCESS_TOKEN_LIFETIME": timedelta(seconds=1)}
    tell(issuer, SID, 1)
    follower = Follower(address(issuer))
    assert follower.has_ended(SID)
    tell(issuer)
    assert soon(lambda: not follower.has_ended(SID))


def test_reader_is_idle_without_requests(issuer: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "IDLE", 0.3)
    follower = Follower(address(issuer))
    assert not follower.has_ended(SID)
    assert soon(lambda: follower._thread is not None and not follower._thread.is_alive())
    tell(issuer, SID)
    assert follower.has_ended(SID)
