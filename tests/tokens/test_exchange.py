"""The session exchange: users who signed in with Django's own login get one session of ours."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib import auth
from django.contrib.auth.signals import user_logged_in
from django.db import OperationalError
from django.http import HttpRequest
from django.urls import include, path
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, Browser, claims_of
from tests.provers import Prover
from tests.racing import in_parallel
from tests.urls_tokens import urlpatterns as project
from tokens.domain import sessions
from tokens.http.exchange import STAMP
from tokens.models import Session
from tokens.serializers import TokenObtainPairSerializer

DOORS = ("/auth/session", "/api/token/session/")

urlpatterns = [*project, path("browsable/", include("rest_framework.urls"))]

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.usefixtures("django_sign_in"),
    pytest.mark.parametrize("door", DOORS),
]

methods: list[Sequence[str] | str | None] = [["pwd"]]


def signed_in_by(request: HttpRequest) -> Sequence[str] | str | None:
    assert request.user.is_authenticated  # as the project's own views see the user
    return methods[0]


@pytest.fixture(autouse=True)
def by_password(settings: Settings) -> None:
    settings.TOKENS_SESSION_EXCHANGE = f"{__name__}.signed_in_by"
    methods[0] = ["pwd"]


@pytest.fixture
def http(ann: Any) -> APIClient:
    """A client in which ann has signed in with Django's login."""
    return signed_in(ann)


def signed_in(user: Any) -> APIClient:
    http = APIClient()
    http.force_login(user)
    return http


def access_in(response: Any) -> str:
    assert response.status_code == 200, response.json()
    body = response.json()
    return str(body.get("accessToken") or body["access"])


def session_of(response: Any) -> Session:
    session: Session = Session.objects.get(pk=claims_of(access_in(response))["sid"])
    return session


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def is_signed_in(http: APIClient) -> bool:
    return auth.SESSION_KEY in http.session


REFUSED = (401, "session_not_exchangeable")


def test_django_session_becomes_one_of_ours_and_ends(http: APIClient, ann: Any, door: str) -> None:
    response = http.post(door, {"deviceName": "Ann's phone"})

    session = session_of(response)
    assert (session.user, session.device_name, session.amr, session.jkt) == (ann, "Ann's phone", "pwd", "")
    assert response["Cache-Control"] == "no-store"
    assert response.cookies["sessionid"].value == ""
    assert not is_signed_in(http)
    if door == "/auth/session":
        assert {*response.json()} == {"accessToken", "tokenType", "expiresIn", "user"}
        assert http.post("/auth/refresh-token").status_code == 200
    else:
        assert {*response.json()} == {"access", "refresh"}
        assert http.post("/api/token/refresh/", {"refresh": response.json()["refresh"]}).status_code == 200


def test_body_may_be_empty(http: APIClient, door: str) -> None:
    assert http.post(door).status_code == 200


def test_session_may_be_short(http: APIClient, door: str) -> None:
    assert session_of(http.post(door, {"remember": False})).remembered is False


def test_copied_cookie_is_worthless_after_the_exchange(http: APIClient, door: str) -> None:
    copied = http.cookies["sessionid"].value
    http.post(door)
    thief = APIClient()
    thief.cookies["sessionid"] = copied

    assert code(thief.post(door)) == (401, "not_authenticated")


def revived(http: APIClient, kept: dict[str, Any]) -> APIClient:
    """Restore the client's Django session, as an engine does that overwrites what another request ended."""
    session = http.session
    session.update(kept)
    session.save()
    http.cookies["sessionid"] = str(session.session_key)
    return http


def test_restored_django_session_is_not_exchanged_again(http: APIClient, door: str) -> None:
    kept = dict(http.session.items())
    http.post(door)

    assert code(revived(http, kept).post(door)) == REFUSED
    assert not is_signed_in(http)


@pytest.mark.django_db(transaction=True)
def test_one_of_many_parallel_exchanges_succeeds(transactional_db: None, django_user_model: Any, door: str) -> None:
    ann = django_user_model._default_manager.create_user("ann", password=PASSWORD)
    cookie = signed_in(ann).cookies["sessionid"].value
    before = Session.objects.count()

    def ask() -> Any:
        http = APIClient()
        http.cookies["sessionid"] = cookie
        return http.post(door).status_code

    assert sorted(in_parallel(*[ask] * 8)) == [200, *[401] * 7]
    assert Session.objects.count() == before + 1


@pytest.mark.usefixtures("db")
def test_exchange_needs_a_django_session(browser: Browser, door: str) -> None:
    for http in (APIClient(), browser.http):
        response = http.post(door, HTTP_AUTHORIZATION=f"Bearer {browser.access}")
        assert code(response) == (401, "not_authenticated")
        assert response["WWW-Authenticate"].startswith('Bearer realm="api"')


def test_exchange_does_not_exist_unless_enabled(http: APIClient, settings: Settings, door: str) -> None:
    settings.TOKENS_SESSION_EXCHANGE = None

    assert code(http.post(door)) == (404, "not_found")
    assert is_signed_in(http)


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_other_sites_cannot_trigger_an_exchange(http: APIClient, door: str, headers: dict[str, str]) -> None:
    assert code(http.post(door, headers=headers)) == (403, "cross_site_request")
    assert is_signed_in(http)


def test_time_of_the_sign_in_is_that_of_the_django_session(
    ann: Any, door: str, time_machine: TimeMachineFixture
) -> None:
    began = timezone.now().replace(microsecond=0)
    time_machine.move_to(began, tick=False)
    http = signed_in(ann)
    time_machine.shift(timedelta(minutes=11))
    response = http.post(door)

    claims = claims_of(access_in(response))
    assert datetime.fromtimestamp(claims["auth_time"], began.tzinfo) == began
    assert session_of(response).created_at == began + timedelta(minutes=11)


def test_time_of_the_sign_in_is_never_ahead(ann: Any, door: str, time_machine: TimeMachineFixture) -> None:
    now = timezone.now().replace(microsecond=0)
    time_machine.move_to(now + timedelta(minutes=1), tick=False)
    http = signed_in(ann)
    time_machine.move_to(now, tick=False)

    assert claims_of(access_in(http.post(door)))["auth_time"] == int(now.timestamp())


def test_django_session_without_a_stamp_is_refused_and_goes_on(ann: Any, settings: Settings, door: str) -> None:
    settings.TOKENS_SESSION_EXCHANGE = None
    http = signed_in(ann)
    settings.TOKENS_SESSION_EXCHANGE = f"{__name__}.signed_in_by"

    assert code(http.post(door)) == REFUSED
    assert is_signed_in(http)


@pytest.mark.parametrize("page", ["/admin/login/", "/browsable/login/"])
def test_sign_in_of_the_admin_or_the_browsable_api_is_refused(admin_user: Any, door: str, page: str) -> None:
    admin_user.set_password(PASSWORD)
    admin_user.save()
    http = APIClient()
    for before in (False, True):
        if before:
            http.force_login(admin_user)  # which could have been exchanged
        posted = http.post(page, {"username": admin_user.get_username(), "password": PASSWORD}, format="multipart")
        assert posted.status_code == 302

        assert code(http.post(door)) == REFUSED
        assert is_signed_in(http)


def test_project_may_refuse(http: APIClient, door: str) -> None:
    methods[0] = None

    assert code(http.post(door)) == REFUSED
    assert is_signed_in(http)


@pytest.mark.parametrize("wrong", ["pwd", ["two words"], [""], [1], ["a" * 31]])
def test_invalid_methods_are_an_error_of_the_project(http: APIClient, door: str, wrong: Any) -> None:
    methods[0] = wrong

    with pytest.raises(TypeError, match=r"signed_in_by must return names from RFC 8176"):
        http.post(door)
    assert is_signed_in(http)


def test_user_who_is_deactivated_or_forbidden_gets_no_session(
    http: APIClient, ann: Any, settings: Settings, door: str
) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "USER_AUTHENTICATION_RULE": lambda _: False}
    assert code(http.post(door)) == REFUSED

    later = signed_in(ann)
    type(ann)._default_manager.update(is_active=False)
    assert code(later.post(door)) == (401, "not_authenticated")


def test_user_authenticated_by_other_means_is_not_exchanged(http: APIClient, settings: Settings, door: str) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.somebody_else"]

    assert code(http.post(door)) == (401, "not_authenticated")


def somebody_else(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        model: Any = auth.get_user_model()
        request.user = model._default_manager.create_user("ben", password=PASSWORD)
        return get_response(request)

    return middleware


def test_hidden_user_gets_no_session(http: APIClient, ann: Any, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokens.domain.users.shown", lambda _: type(ann)._default_manager.none())

    assert code(http.post(door)) == REFUSED


def test_login_without_a_django_session_is_not_stamped(ann: Any, door: str) -> None:
    for request in (None, HttpRequest()):
        user_logged_in.send(type(ann), request=request, user=ann)


def test_login_of_another_user_does_not_stamp_the_session(http: APIClient, ann: Any, door: str) -> None:
    kept = http.session
    del kept[STAMP]
    request: Any = HttpRequest()
    request.session = kept
    user_logged_in.send(type(ann), request=request, user=type(ann)(pk=ann.pk + 1))  # such as a token
    kept.save()

    assert code(http.post(door)) == REFUSED


def test_claims_of_the_project_are_in_the_tokens(http: APIClient, settings: Settings, door: str) -> None:
    settings.SIMPLE_JWT = {
        **getattr(settings, "SIMPLE_JWT", {}),
        "TOKEN_OBTAIN_SERIALIZER": f"{__name__}.WithTeam",
    }

    assert claims_of(access_in(http.post(door)))["team"] == "red"


class WithTeam(TokenObtainPairSerializer):
    @classmethod
    def get_token(cls, user: Any) -> Any:
        token = super().get_token(user)
        token["team"] = "red"
        return token


class TestSecondFactor:
    @pytest.fixture(autouse=True)
    def hook(self, settings: Settings) -> None:
        settings.TOKENS_SECOND_FACTOR = "tests.tokens.factors"

    def step(self, http: APIClient, door: str, challenge: str, **extra: Any) -> Any:
        second = "/auth/login/second-factor" if door == "/auth/session" else "/api/token/second-factor/"
        return http.post(second, {"challenge": challenge, "code": "4711"}, **extra)

    @pytest.mark.parametrize("amr", [["pwd"], ["fed"], ["google"], []])
    def test_is_asked_for_where_the_sign_in_was_without(
        self, ann: Any, door: str, amr: list[str], time_machine: TimeMachineFixture
    ) -> None:
        methods[0] = amr
        began = timezone.now().replace(microsecond=0)
        time_machine.move_to(began, tick=False)
        http = signed_in(ann)
        time_machine.shift(timedelta(minutes=3))
        first = http.post(door, {"deviceName": "phone"})
        assert code(first) == (401, "second_factor_required")
        assert first.json()["methods"] == ["pin"]
        assert not is_signed_in(http)

        second = self.step(http, door, first.json()["challenge"])

        session = session_of(second)
        assert session.amr.split() == [*amr, "pin"]
        assert (session.authenticated_at, session.device_name) == (began, "phone")
        assert code(self.step(http, door, first.json()["challenge"])) == (401, "invalid_challenge")

    def test_of_an_unknown_name_is_told_as_one_of_several(self, http: APIClient, door: str, monkeypatch: Any) -> None:
        monkeypatch.setattr("tests.tokens.factors.verify", lambda *_: ["pwd", "dance"])
        methods[0] = ["fed"]
        first = http.post(door)

        assert session_of(self.step(http, door, first.json()["challenge"])).amr == "fed dance mfa"

    def test_is_not_asked_for_again(self, http: APIClient, door: str) -> None:
        methods[0] = ["fed", "otp"]

        assert session_of(http.post(door)).amr == "fed otp"

    def test_opens_one_session_for_all_challenges(self, ann: Any, door: str) -> None:
        http = signed_in(ann)
        kept = dict(http.session.items())
        challenges = [http.post(door).json()["challenge"], revived(http, kept).post(door).json()["challenge"]]

        answers = [self.step(APIClient(), door, challenge) for challenge in challenges]
        assert [answer.status_code for answer in answers] == [200, 401]
        assert code(answers[1]) == (401, "invalid_challenge")


class TestKeys:
    def proof(self, prover: Prover, door: str) -> dict[str, Any]:
        return {"HTTP_DPOP": prover.prove("POST", f"http://testserver{door}")}

    @pytest.mark.parametrize("mode", ["optional", "required"])
    def test_session_is_bound_to_the_proved_key(
        self, http: APIClient, settings: Settings, door: str, mode: str
    ) -> None:
        settings.TOKENS_DPOP, prover = mode, Prover()

        assert session_of(http.post(door, **self.proof(prover, door))).jkt == prover.jkt

    def test_required_key_is_checked_first(self, http: APIClient, settings: Settings, door: str) -> None:
        settings.TOKENS_DPOP = "required"

        assert code(http.post(door)) == (401, "dpop_proof_required")
        assert code(http.post(door, **self.proof(Prover(), "/elsewhere"))) == (401, "invalid_dpop_proof")
        assert http.post(door, **self.proof(Prover(), door)).status_code == 200


def test_outage_keeps_the_django_session(http: APIClient, door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as outage:
        outage.setattr(sessions, "start", fail)
        assert code(http.post(door)) == (503, "unavailable")
    assert http.post(door).status_code == 200
