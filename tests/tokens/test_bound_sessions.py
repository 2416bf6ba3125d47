"""Sessions that are bound to a key (RFC 9449): their tokens are accepted only with a proof of it."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone
from pytest_django import Settings
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView
from time_machine import TimeMachineFixture

from tests.clients import PASSWORD, App, Browser, claims_of
from tests.forgery import access_token
from tests.provers import Prover, ProvingClient
from tests.racing import just_before
from tests.urls_tokens import urlpatterns as project
from tokens import kinds
from tokens.authentication import JWTAuthentication, StatelessJWTAuthentication
from tokens.domain import sessions
from tokens.domain.client import UNKNOWN
from tokens.exceptions import KeyMismatch, ProofRequired
from tokens.http.errors import exception_handler
from tokens.http.refusals import Refused
from tokens.jose import dpop
from tokens.models import SecurityEvent, Session
from tokens.serializers import TokenObtainPairSerializer, TokenObtainSerializer, TokenRefreshSerializer
from tokens.tokens import AccessToken, RefreshToken

SITE = "http://testserver"
REFRESH = f"{SITE}/api/token/refresh/"
ALGORITHMS = 'algs="ES256 EdDSA Ed25519"'
REFUSALS = {
    "dpop_proof_required": f'DPoP realm="api", error="invalid_token", {ALGORITHMS}',
    "dpop_key_mismatch": f'DPoP realm="api", error="invalid_token", {ALGORITHMS}',
    "invalid_dpop_proof": f'DPoP realm="api", error="invalid_dpop_proof", {ALGORITHMS}',
    "use_dpop_nonce": f'DPoP realm="api", error="use_dpop_nonce", {ALGORITHMS}',
}

AWAY = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}}


class Guarded(APIView):
    authentication_classes: Any = (JWTAuthentication,)
    permission_classes: Any = (IsAuthenticated,)

    def get_exception_handler(self) -> Any:
        return exception_handler

    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user.pk)})

    post = get


class Stateless(Guarded):
    authentication_classes = (StatelessJWTAuthentication,)


urlpatterns = [*project, path("guarded", Guarded.as_view()), path("stateless", Stateless.as_view())]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def prover() -> Prover:
    return Prover()


@pytest.fixture
def app(ann: Any, prover: Prover) -> App:
    """An app whose session is bound to its key."""
    app = App()
    app.http = ProvingClient(prover)
    refresh = RefreshToken.for_user(ann, jkt=prover.jkt)
    app.refresh_token, app.access = str(refresh), str(refresh.access_token)
    return app


@pytest.fixture
def browser(ann: Any, prover: Prover) -> Browser:
    """A browser whose session is bound to its key."""
    browser = Browser()
    browser.http = ProvingClient(prover)
    refresh = RefreshToken.for_user(ann, jkt=prover.jkt)
    browser.cookie, browser.access = str(refresh), str(refresh.access_token)
    return browser


def call(token: str, proof: str | None = None, *, scheme: str = "DPoP", url: str = "/guarded", **extra: Any) -> Any:
    extra |= {} if proof is None else {"HTTP_DPOP": proof}
    return APIClient().get(url, HTTP_AUTHORIZATION=f"{scheme} {token}", **extra)


def refresh(token: str, proof: str | None = None, **extra: Any) -> Any:
    extra |= {} if proof is None else {"HTTP_DPOP": proof}
    return APIClient().post("/api/token/refresh/", {"refresh": token}, format="json", **extra)


def assert_refused(response: Any, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (401, code)
    assert response["WWW-Authenticate"] == REFUSALS[code]
    assert response["Cache-Control"] == "no-store"
    assert ("DPoP-Nonce" in response) >= (code == "use_dpop_nonce")
    assert not response.cookies


def events() -> list[tuple[str, int]]:
    return list(SecurityEvent.objects.filter(kind=kinds.TOKEN_UNPROVEN).values_list("kind", "count"))


# The tokens


def test_access_token_has_the_thumbprint_of_its_key(app: App, prover: Prover) -> None:
    assert claims_of(app.access)["cnf"] == {"jkt": prover.jkt}
    assert "cnf" not in claims_of(app.refresh_token)
    assert Session.objects.get().jkt == prover.jkt


def test_access_token_of_an_unbound_session_has_no_thumbprint(ann: Any) -> None:
    assert "cnf" not in claims_of(str(AccessToken.for_user(ann)))
    assert Session.objects.get().jkt == ""


def test_session_can_be_bound_without_a_login(ann: Any, prover: Prover) -> None:
    token = AccessToken.for_user(ann, jkt=prover.jkt)
    assert token["cnf"] == {"jkt": prover.jkt} == {"jkt": token.session.jkt}


def test_every_session_must_be_bound_if_required(ann: Any, prover: Prover, settings: Settings) -> None:
    settings.TOKENS_DPOP = "required"
    for kind in (AccessToken, RefreshToken):
        with pytest.raises(ProofRequired):
            kind.for_user(ann)
        kind.for_user(ann, jkt=prover.jkt)
    assert set(Session.objects.values_list("jkt", flat=True)) == {prover.jkt}


@pytest.mark.parametrize("cnf", [None, "jkt", [], {}, {"jkt": ""}, {"jkt": 1}, {"x5t#S256": "a"}, {"jkt": "a", "b": 1}])
@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
def test_token_with_another_confirmation_method_is_not_valid(app: App, cnf: Any, url: str) -> None:
    token = access_token({**claims_of(app.access), "cnf": cnf})
    for scheme in ("Bearer", "DPoP"):
        assert call(token, scheme=scheme, url=url).json()["code"] == "token_not_valid"


# The guard


@pytest.mark.parametrize("alg", dpop.ALGORITHMS)
@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
def test_token_with_its_proof_is_accepted(ann: Any, alg: str, url: str) -> None:
    prover = Prover(alg)
    token = str(AccessToken.for_user(ann, jkt=prover.jkt))
    assert call(token, prover.prove("GET", SITE + url, token), url=url).status_code == 200
    assert events() == []


@pytest.mark.parametrize("scheme", ["dpop", "DPOP"])
def test_scheme_is_case_insensitive(app: App, prover: Prover, scheme: str) -> None:
    proof = prover.prove("GET", f"{SITE}/guarded", app.access)
    assert call(app.access, proof, scheme=scheme).status_code == 200


def test_guarded_request_costs_one_statement(app: App, prover: Prover) -> None:
    proof = prover.prove("GET", f"{SITE}/guarded", app.access)
    with CaptureQueriesContext(connection) as captured:
        assert call(app.access, proof).status_code == 200
    assert len(captured) == 1


@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
def test_bound_token_without_a_proof_is_refused(app: App, url: str) -> None:
    assert_refused(call(app.access, url=url), "dpop_proof_required")


@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
def test_bound_token_as_bearer_is_refused_even_with_a_proof(app: App, prover: Prover, url: str) -> None:
    proof = prover.prove("GET", SITE + url, app.access)
    assert_refused(call(app.access, scheme="Bearer", url=url), "dpop_proof_required")
    assert_refused(call(app.access, proof, scheme="Bearer", url=url), "dpop_proof_required")
    assert call(app.access, proof, url=url).status_code == 200


@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
def test_proof_of_another_key_is_refused(app: App, url: str) -> None:
    thief = Prover()
    assert_refused(call(app.access, thief.prove("GET", SITE + url, app.access), url=url), "dpop_key_mismatch")


@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
def test_proof_works_once(app: App, prover: Prover, url: str) -> None:
    proof = prover.prove("GET", SITE + url, app.access)
    assert call(app.access, proof, url=url).status_code == 200
    assert_refused(call(app.access, proof, url=url), "invalid_dpop_proof")


@pytest.mark.parametrize(
    ("method", "url", "token"),
    [
        ("GET", f"{SITE}/guarded", None),
        ("GET", f"{SITE}/guarded", "another"),
        ("POST", f"{SITE}/guarded", ""),
        ("GET", f"{SITE}/stateless", ""),
        ("GET", "https://testserver/guarded", ""),
        ("GET", "http://localhost/guarded", ""),
    ],
)
def test_proof_of_another_call_is_refused(app: App, prover: Prover, method: str, url: str, token: str | None) -> None:
    proof = prover.prove(method, url, app.access if token == "" else token)
    assert_refused(call(app.access, proof), "invalid_dpop_proof")
    assert events() == []


def test_exactly_one_proof_is_required(app: App, prover: Prover) -> None:
    """Servers join two headers of one name."""
    proofs = [prover.prove("GET", f"{SITE}/guarded", app.access) for _ in range(2)]
    for proof in ("", "nonsense", app.access, ",".join(proofs), ", ".join(proofs)):
        assert_refused(call(app.access, proof), "invalid_dpop_proof")


@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
@pytest.mark.parametrize("claims", [{"iat": 1}, {"nonce": "unknown"}])
def test_proof_with_a_wrong_time_needs_a_nonce(app: App, prover: Prover, url: str, claims: Any) -> None:
    response = call(app.access, prover.prove("GET", SITE + url, app.access, **claims), url=url)
    assert_refused(response, "use_dpop_nonce")
    proof = prover.prove("GET", SITE + url, app.access, iat=1, nonce=response["DPoP-Nonce"])
    assert call(app.access, proof, url=url).status_code == 200


@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
def test_unbound_token_is_refused_under_the_dpop_scheme(ann: Any, prover: Prover, url: str) -> None:
    token = str(AccessToken.for_user(ann))
    response = call(token, prover.prove("GET", SITE + url, token), url=url)
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")
    assert response["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"'


@pytest.mark.parametrize("url", ["/guarded", "/stateless"])
def test_unbound_token_ignores_a_proof(ann: Any, url: str) -> None:
    assert call(str(AccessToken.for_user(ann)), "nonsense", scheme="Bearer", url=url).status_code == 200


def test_session_row_decides_whether_a_token_is_bound(ann: Any, prover: Prover) -> None:
    """A thief with only the signing key can leave out the claim that binds the token."""
    token = str(AccessToken.for_user(ann, jkt=prover.jkt))
    unbound = access_token({name: value for name, value in claims_of(token).items() if name != "cnf"})
    assert_refused(call(unbound, scheme="Bearer"), "dpop_proof_required")
    rebound = access_token({**claims_of(token), "cnf": {"jkt": (thief := Prover()).jkt}})
    assert_refused(call(rebound, thief.prove("GET", f"{SITE}/guarded", rebound)), "dpop_key_mismatch")


def test_refused_request_does_not_count_as_use(app: App, prover: Prover) -> None:
    """It uses up neither the token, whose first use would confirm the rotation, nor the proof."""
    app.refresh()
    proof = prover.prove("GET", f"{SITE}/guarded", app.access)
    for response in (
        call(app.access),
        call(app.access, Prover().prove("GET", f"{SITE}/guarded", app.access)),
        call(app.access, "nonsense"),
        APIClient().post("/guarded", HTTP_AUTHORIZATION=f"DPoP {app.access}", HTTP_DPOP=proof),
    ):
        assert response.status_code == 401
    assert Session.objects.get().confirmed is False
    assert call(app.access, proof).status_code == 200
    assert Session.objects.get().confirmed is True


def test_superseded_token_without_its_key_ends_no_session(app: App, time_machine: TimeMachineFixture) -> None:
    stolen = app.refresh_token
    app.refresh()
    time_machine.move_to(timezone.now() + timedelta(hours=1))
    app.refresh()
    for response in (refresh(stolen), refresh(stolen, Prover().prove("POST", REFRESH, nonce=dpop.newest_nonce()))):
        assert response.status_code == 401
    assert app.refresh().status_code == 200
    assert app.refresh(stolen).json()["code"] == "token_reused"


def test_ended_session_is_reported_before_the_proof_is_checked(app: App) -> None:
    app.blacklist(app.refresh_token)
    assert call(app.access).json()["code"] == "token_revoked"


def test_unreachable_cache_is_503(app: App, prover: Prover, settings: Settings) -> None:
    settings.CACHES = AWAY
    for url in ("/guarded", "/stateless"):
        proof = prover.prove("GET", SITE + url, app.access)
        response = call(app.access, proof, url=url)
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response["Retry-After"] == "5"
        assert call(app.access, url=url).json()["code"] == "dpop_proof_required"
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert call(app.access, prover.prove("GET", f"{SITE}/guarded", app.access)).status_code == 200


def test_guard_step_without_a_proof_refuses_a_bound_token(app: App) -> None:
    claims = AccessToken.claims(app.access)
    with pytest.raises(ProofRequired):
        sessions.accept(claims)
    with pytest.raises(ProofRequired):
        sessions.rotate(RefreshToken.claims(app.refresh_token))


# The URL


def test_proof_url_has_the_host_and_path_that_the_client_sent(app: App, prover: Prover) -> None:
    proof = prover.prove("GET", "http://LOCALHOST:8000/guarded?page=1#part", app.access)
    assert call(app.access, proof, HTTP_HOST="localhost:8000").status_code == 200


@pytest.mark.parametrize(
    ("public_url", "htu", "status"),
    [
        ("https://auth.example.com", "https://auth.example.com/guarded", 200),
        ("https://auth.example.com", "http://testserver/guarded", 200),
        ("https://auth.example.com/below", "https://auth.example.com/below/guarded", 200),
        ("https://auth.example.com/below/", "https://auth.example.com/below/guarded", 200),
        ("https://auth.example.com/below", "https://auth.example.com/guarded", 401),
        ("", "https://auth.example.com/guarded", 401),
    ],
)
def test_proof_may_name_the_public_url(
    app: App, prover: Prover, settings: Settings, public_url: str, htu: str, status: int
) -> None:
    settings.TOKENS_PUBLIC_URL = public_url
    assert call(app.access, prover.prove("GET", htu, app.access)).status_code == status


def test_public_url_prefix_may_already_be_in_the_path(app: App, prover: Prover, settings: Settings) -> None:
    settings.TOKENS_PUBLIC_URL = "https://auth.example.com/below"
    proof = prover.prove("GET", "https://auth.example.com/below/guarded", app.access)
    assert call(app.access, proof, SCRIPT_NAME="/below").status_code == 200


def test_host_with_an_invalid_port_is_no_server_error(app: App, prover: Prover) -> None:
    proof = prover.prove("GET", f"{SITE}/guarded", app.access)
    assert_refused(call(app.access, proof, HTTP_HOST="testserver:99999"), "invalid_dpop_proof")


# Refreshing


def test_refresh_with_its_proof_and_a_nonce_rotates(app: App, prover: Prover) -> None:
    proof = prover.prove("POST", REFRESH, nonce=dpop.newest_nonce())
    with CaptureQueriesContext(connection) as captured:
        response = refresh(app.refresh_token, proof)
    assert response.status_code == 200
    assert len(captured) == 2
    assert claims_of(response.json()["access"])["cnf"] == {"jkt": prover.jkt}
    assert Session.objects.get().generation == 1


def test_retry_with_a_new_proof_returns_the_same_token(app: App) -> None:
    first = app.refresh_token
    given = app.refresh().json()["refresh"]
    assert app.refresh(first).json()["refresh"] == given


def test_refresh_without_a_nonce_is_challenged(app: App, prover: Prover) -> None:
    response = refresh(app.refresh_token, prover.prove("POST", REFRESH))
    assert_refused(response, "use_dpop_nonce")
    proof = prover.prove("POST", REFRESH, iat=1, nonce=response["DPoP-Nonce"])
    assert refresh(app.refresh_token, proof).status_code == 200


def test_nonce_expires(app: App, prover: Prover, time_machine: TimeMachineFixture) -> None:
    minute = int(timezone.now().timestamp()) // 60 * 60 + 60
    time_machine.move_to(minute, tick=False)
    nonce = dpop.newest_nonce()
    time_machine.move_to(minute + 179, tick=False)
    assert refresh(app.refresh_token, prover.prove("POST", REFRESH, nonce=nonce)).status_code == 200
    time_machine.move_to(minute + 180, tick=False)
    assert_refused(refresh(app.refresh_token, prover.prove("POST", REFRESH, nonce=nonce)), "use_dpop_nonce")


def refusals_of_a_refresh(prover: Prover) -> list[tuple[str | None, str]]:
    nonce = dpop.newest_nonce()
    return [
        (None, "dpop_proof_required"),
        ("", "invalid_dpop_proof"),
        ("nonsense", "invalid_dpop_proof"),
        (prover.prove("GET", REFRESH, nonce=nonce), "invalid_dpop_proof"),
        (prover.prove("POST", f"{SITE}/auth/logout", nonce=nonce), "invalid_dpop_proof"),
        (prover.prove("POST", REFRESH, nonce="unknown"), "use_dpop_nonce"),
        (prover.prove("POST", REFRESH), "use_dpop_nonce"),
        (Prover().prove("POST", REFRESH, nonce=nonce), "dpop_key_mismatch"),
        (Prover().prove("POST", REFRESH), "use_dpop_nonce"),
    ]


def test_refused_refresh_does_not_change_the_session(app: App, prover: Prover) -> None:
    before = Session.objects.values().get()
    for proof, code in refusals_of_a_refresh(prover):
        assert_refused(refresh(app.refresh_token, proof), code)
    assert Session.objects.values().get() == before
    assert app.refresh().status_code == 200


def test_refused_refresh_keeps_the_cookie(browser: Browser, prover: Prover) -> None:
    browser.http = APIClient(headers={"user-agent": "a thief's"})
    browser.cookie = str(RefreshToken.of(Session.objects.get()))
    for proof in (None, "nonsense", prover.prove("POST", f"{SITE}/auth/refresh-token")):
        response = browser.refresh(**({} if proof is None else {"HTTP_DPOP": proof}))
        assert response.status_code == 401
        assert response["Cache-Control"] == "no-store"
        assert not response.cookies


def test_browser_refreshes_by_its_cookie(browser: Browser, prover: Prover) -> None:
    response = browser.refresh()
    assert response.status_code == 200
    assert response.json()["tokenType"] == "DPoP"
    assert browser.get("/guarded").status_code == 200


def test_unbound_session_stays_unbound_despite_a_proof(ann: Any, prover: Prover) -> None:
    token = str(RefreshToken.for_user(ann))
    for proof in (prover.prove("POST", REFRESH, nonce=dpop.newest_nonce()), prover.prove("POST", REFRESH), "nonsense"):
        response = refresh(token, proof)
        assert response.status_code == 200
        assert "cnf" not in claims_of(response.json()["access"])
        token = response.json()["refresh"]
    assert Session.objects.get().jkt == ""


def test_unbound_browser_gets_a_bearer_challenge(ann: Any) -> None:
    browser = Browser()
    browser.cookie = str(RefreshToken.for_user(ann))
    assert browser.refresh().json()["tokenType"] == "Bearer"


@pytest.mark.parametrize("mode", ["optional", "required", "off"])
def test_bound_session_needs_its_proof_under_every_setting(
    app: App, browser: Browser, settings: Settings, mode: str
) -> None:
    settings.TOKENS_DPOP = mode
    assert_refused(refresh(app.refresh_token), "dpop_proof_required")
    assert_refused(call(app.access), "dpop_proof_required")
    assert app.refresh().status_code == 200
    assert browser.get("/guarded").status_code == 200


def test_existing_unbound_session_continues_if_keys_become_required(ann: Any, settings: Settings) -> None:
    token = RefreshToken.for_user(ann)
    settings.TOKENS_DPOP = "required"
    assert call(str(token.access_token), scheme="Bearer").status_code == 200
    assert refresh(str(token)).status_code == 200


# Calls that need no key


def test_ending_a_session_needs_no_key(app: App, browser: Browser) -> None:
    http = APIClient()
    assert http.post("/api/token/blacklist/", {"refresh": app.refresh_token}, format="json").status_code == 200
    form = "application/x-www-form-urlencoded"
    assert http.post("/auth/revoke", f"token={browser.access}", content_type=form).status_code == 200
    assert Session.objects.filter(revoked_at=None).count() == 0


def test_verifying_a_token_needs_no_key(app: App) -> None:
    for token in (app.access, app.refresh_token):
        assert APIClient().post("/api/token/verify/", {"token": token}, format="json").status_code == 200


@pytest.mark.parametrize("kind", ["access", "refresh_token"])
def test_introspection_returns_the_thumbprint(app: App, prover: Prover, ann: Any, kind: str) -> None:
    ann.is_staff = True
    ann.save()
    form = "application/x-www-form-urlencoded"
    asked = app.http.post(
        "/auth/introspect",
        f"token={getattr(app, kind)}",
        content_type=form,
        HTTP_AUTHORIZATION=f"Bearer {app.access}",
    )
    assert asked.json()["cnf"] == {"jkt": prover.jkt}


def test_introspection_of_an_unbound_token_returns_no_thumbprint(ann: Any, app: App) -> None:
    ann.is_staff = True
    ann.save()
    form, token = "application/x-www-form-urlencoded", AccessToken.for_user(ann)
    asked = app.http.post(
        "/auth/introspect", f"token={token}", content_type=form, HTTP_AUTHORIZATION=f"Bearer {app.access}"
    )
    assert asked.json()["active"] is True
    assert "cnf" not in asked.json()


# Signing out


def test_logout_needs_both_tokens_and_the_proof(browser: Browser) -> None:
    assert browser.logout().status_code == 204
    assert Session.objects.get().revoked_at


def test_logout_without_the_proof_is_refused(browser: Browser) -> None:
    thief = Browser()
    thief.cookie, thief.access = browser.cookie, browser.access
    assert_refused(thief.logout(), "dpop_proof_required")
    assert Session.objects.get().revoked_at is None


# The nonce


def test_every_answer_to_a_proof_has_the_newest_nonce(app: App, prover: Prover) -> None:
    newest = dpop.newest_nonce()
    for response in (
        call(app.access, prover.prove("GET", f"{SITE}/guarded", app.access)),
        call(app.access, "nonsense"),
        call("nonsense", "nonsense", scheme="Bearer"),
        APIClient().get("/nowhere", HTTP_DPOP="nonsense"),
        APIClient().put("/auth/login", HTTP_DPOP="nonsense"),
        refresh(app.refresh_token, prover.prove("POST", REFRESH)),
    ):
        assert response["DPoP-Nonce"] == newest


def test_client_with_the_newest_nonce_does_not_get_it_again(app: App, prover: Prover) -> None:
    proof = prover.prove("GET", f"{SITE}/guarded", app.access, nonce=dpop.newest_nonce())
    response = call(app.access, proof)
    assert response.status_code == 200
    assert "DPoP-Nonce" not in response


def test_client_without_a_proof_gets_no_nonce(app: App) -> None:
    assert "DPoP-Nonce" not in call(app.access)
    assert "DPoP-Nonce" not in APIClient().get("/.well-known/jwks.json")


def test_refusal_has_the_nonce_even_without_the_middleware(app: App, prover: Prover, settings: Settings) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "DPoPNonce" not in name]
    assert_refused(refresh(app.refresh_token, prover.prove("POST", REFRESH)), "use_dpop_nonce")
    assert "DPoP-Nonce" not in call(app.access, "nonsense")


# Requests and answers


def test_challenge_offers_dpop_unless_it_is_off(db: None, settings: Settings) -> None:
    for url in ("/guarded", "/stateless"):
        assert APIClient().get(url)["WWW-Authenticate"] == f'Bearer realm="api", DPoP realm="api", {ALGORITHMS}'
    settings.TOKENS_DPOP = "off"
    for url in ("/guarded", "/stateless"):
        assert APIClient().get(url)["WWW-Authenticate"] == 'Bearer realm="api"'


def test_use_without_the_key_is_logged_once_an_hour(app: App, time_machine: TimeMachineFixture) -> None:
    time_machine.move_to(timezone.now().replace(minute=0, second=0) + timedelta(hours=1))
    app.refresh()
    thief = Prover()
    call(app.access)
    call(app.access, thief.prove("GET", f"{SITE}/guarded", app.access))
    refresh(app.refresh_token)
    refresh(app.refresh_token, thief.prove("POST", REFRESH, nonce=dpop.newest_nonce()))
    assert events() == [("token_unproven", 4)]
    event = SecurityEvent.objects.get(kind=kinds.TOKEN_UNPROVEN)
    assert (event.session, event.ip_address) == (Session.objects.get().pk, "127.0.0.1")
    time_machine.move_to(timezone.now() + timedelta(hours=1))
    refresh(app.refresh_token)
    assert sorted(events()) == [("token_unproven", 1), ("token_unproven", 4)]


def test_use_without_the_key_is_logged_per_session(app: App, browser: Browser) -> None:
    call(app.access)
    call(browser.access)
    assert events() == [("token_unproven", 1)] * 2


def test_invalid_proof_with_the_right_key_is_not_an_event(app: App, prover: Prover) -> None:
    proof = prover.prove("GET", f"{SITE}/guarded", app.access)
    for _ in range(2):
        call(app.access, proof)
    refresh(app.refresh_token, prover.prove("POST", REFRESH))
    assert events() == []


@pytest.mark.django_db(transaction=True)
def test_user_deleted_at_that_moment_is_no_server_error(app: App, ann: Any) -> None:
    session = Session.objects.select_related("user").get()
    ann.delete()
    with pytest.raises(KeyMismatch):
        sessions._check_key(session, UNKNOWN, _mismatch)


def _mismatch(jkt: str) -> None:
    raise KeyMismatch


# Signing in

LOGIN = {"username": "ann", "password": PASSWORD}


def proving(url: str, body: Any, proof: str | None, **extra: Any) -> Any:
    extra |= {} if proof is None else {"HTTP_DPOP": proof}
    return APIClient().post(url, body, format="json", **extra)


@pytest.mark.parametrize("alg", dpop.ALGORITHMS)
@pytest.mark.parametrize("mode", ["optional", "required"])
def test_login_with_a_proof_starts_a_bound_session(ann: Any, settings: Settings, alg: str, mode: str) -> None:
    settings.TOKENS_DPOP = mode
    prover = Prover(alg)
    cookie = proving("/auth/login", LOGIN, prover.prove("POST", f"{SITE}/auth/login"))
    body = proving("/api/token/", LOGIN, prover.prove("POST", f"{SITE}/api/token/"))
    assert (cookie.status_code, cookie.json()["tokenType"], body.status_code) == (200, "DPoP", 200)
    for token in (cookie.json()["accessToken"], body.json()["access"]):
        assert claims_of(token)["cnf"] == {"jkt": prover.jkt}
    assert set(Session.objects.values_list("jkt", flat=True)) == {prover.jkt}


@pytest.mark.parametrize("mode", ["optional", "off"])
def test_login_without_a_proof_starts_an_unbound_session(ann: Any, settings: Settings, mode: str) -> None:
    settings.TOKENS_DPOP = mode
    response = proving("/auth/login", LOGIN, None)
    assert (response.status_code, response.json()["tokenType"]) == (200, "Bearer")
    assert "cnf" not in claims_of(response.json()["accessToken"])


def test_proof_is_ignored_if_dpop_is_off(ann: Any, prover: Prover, settings: Settings) -> None:
    settings.TOKENS_DPOP = "off"
    for proof in (prover.prove("POST", f"{SITE}/auth/login"), "nonsense"):
        assert proving("/auth/login", LOGIN, proof).json()["tokenType"] == "Bearer"
    assert set(Session.objects.values_list("jkt", flat=True)) == {""}


@pytest.mark.parametrize("url", ["/auth/login", "/api/token/"])
def test_login_proof_is_checked_before_password_and_limits(ann: Any, url: str, settings: Settings) -> None:
    settings.TOKENS_DPOP = "required"
    settings.TOKENS_LIMITS = {"login": (1, 60.0)}
    prover = Prover()
    for proof, code in (
        (None, "dpop_proof_required"),
        ("nonsense", "invalid_dpop_proof"),
        (prover.prove("GET", SITE + url), "invalid_dpop_proof"),
        (prover.prove("POST", SITE + url, iat=1), "use_dpop_nonce"),
        (prover.prove("POST", SITE + url, nonce="unknown"), "use_dpop_nonce"),
    ):
        for password in (PASSWORD, "wrong"):
            response = proving(url, {**LOGIN, "password": password}, proof)
            assert_refused(response, code)
            assert response["Cache-Control"] == "no-store"
    assert not Session.objects.exists()
    assert not SecurityEvent.objects.exists()
    assert proving(url, LOGIN, prover.prove("POST", SITE + url)).status_code == 200


def test_client_with_a_wrong_clock_signs_in_with_a_nonce(ann: Any, prover: Prover) -> None:
    refused = proving("/auth/login", LOGIN, prover.prove("POST", f"{SITE}/auth/login", iat=1))
    assert_refused(refused, "use_dpop_nonce")
    proof = prover.prove("POST", f"{SITE}/auth/login", iat=1, nonce=refused["DPoP-Nonce"])
    assert proving("/auth/login", LOGIN, proof).status_code == 200


@pytest.mark.parametrize("client", [Browser, App])
def test_bound_client_works_like_any_other(ann: Any, prover: Prover, client: Any) -> None:
    one = client()
    one.http = ProvingClient(prover)
    assert one.login().status_code == 200
    for _ in range(3):
        assert one.http.get("/guarded", HTTP_AUTHORIZATION=f"Bearer {one.access}").status_code == 200
        assert one.refresh().status_code == 200


# The second step

STEPS = [
    ("/auth/login", "/auth/login/second-factor"),
    ("/api/token/", "/api/token/second-factor/"),
    ("/auth/login", "/api/token/second-factor/"),
]


@pytest.fixture
def second_factor(settings: Settings) -> None:
    settings.TOKENS_SECOND_FACTOR = "tests.tokens.factors"


def challenged(url: str, prover: Prover | None) -> str:
    proof = prover.prove("POST", SITE + url) if prover else None
    return str(proving(url, LOGIN, proof).json()["challenge"])


@pytest.mark.usefixtures("second_factor")
@pytest.mark.parametrize(("first", "second"), STEPS)
def test_second_step_needs_the_key_of_the_first(ann: Any, prover: Prover, first: str, second: str) -> None:
    answer = {"challenge": challenged(first, prover), "code": "4711"}
    response = proving(second, answer, prover.prove("POST", SITE + second))
    assert response.status_code == 200
    assert Session.objects.get().jkt == prover.jkt


@pytest.mark.usefixtures("second_factor")
@pytest.mark.parametrize(("first", "second"), STEPS)
@pytest.mark.parametrize(("at_first", "then"), [("own", "another"), ("own", None), (None, "own")])
def test_second_step_refuses_another_key(
    ann: Any, first: str, second: str, at_first: str | None, then: str | None
) -> None:
    provers = {"own": Prover(), "another": Prover(), None: None}
    challenge, other = challenged(first, provers[at_first]), provers[then]
    proof = other.prove("POST", SITE + second) if other else None
    for code in ("4711", "4712"):
        assert_refused(proving(second, {"challenge": challenge, "code": code}, proof), "dpop_key_mismatch")
    assert not Session.objects.exists()


@pytest.mark.usefixtures("second_factor")
def test_second_step_checks_the_proof_first(ann: Any, prover: Prover) -> None:
    answer = {"challenge": challenged("/auth/login", prover), "code": "4711"}
    url = "/auth/login/second-factor"
    assert_refused(proving(url, answer, "nonsense"), "invalid_dpop_proof")
    assert_refused(proving(url, answer, prover.prove("POST", f"{SITE}/auth/login")), "invalid_dpop_proof")
    assert_refused(proving(url, answer, prover.prove("POST", SITE + url, iat=1)), "use_dpop_nonce")
    assert proving(url, answer, prover.prove("POST", SITE + url)).status_code == 200


@pytest.mark.usefixtures("second_factor")
def test_unbound_challenge_is_void_once_keys_are_required(ann: Any, settings: Settings) -> None:
    answer = {"challenge": challenged("/auth/login", None), "code": "4711"}
    settings.TOKENS_DPOP = "required"
    response = proving("/auth/login/second-factor", answer, None)
    assert (response.status_code, response.json()["code"]) == (401, "invalid_challenge")
    settings.TOKENS_DPOP = "optional"
    assert proving("/auth/login/second-factor", answer, None).status_code == 200


# Projects


def trusting(jkt: str) -> None:
    """Accept any caller as the holder of the key."""


@pytest.mark.django_db(transaction=True)
def test_one_proof_is_enough_if_the_row_is_read_twice(app: App, prover: Prover) -> None:
    """The row changes just before the first use of a new token is written."""
    app.refresh()
    newest = Session.objects.get()
    claims = RefreshToken.claims(app.refresh_token)
    Session.objects.update(rotated_at=timezone.now() - timedelta(minutes=1))
    proof = prover.prove("GET", f"{SITE}/guarded", app.access)
    with just_before('UPDATE "latchkey_session"', lambda: sessions.rotate(claims, prove=trusting)):
        assert call(app.access, proof).status_code == 200
    assert Session.objects.get().generation == newest.generation + 1


def test_refresh_without_rotation_needs_its_proof_too(app: App, settings: Settings) -> None:
    settings.SIMPLE_JWT = {**getattr(settings, "SIMPLE_JWT", {}), "ROTATE_REFRESH_TOKENS": False}
    assert_refused(refresh(app.refresh_token), "dpop_proof_required")
    answer = app.http.post("/api/token/refresh/", {"refresh": app.refresh_token}, format="json")
    assert answer.status_code == 200
    assert answer.json().keys() == {"access"}


def test_serializer_without_a_request_has_no_proof(app: App, ann: Any, settings: Settings) -> None:
    with pytest.raises(ProofRequired):
        TokenRefreshSerializer(data={"refresh": app.refresh_token}).is_valid()
    login = {ann.USERNAME_FIELD: "ann", "password": PASSWORD}
    assert TokenObtainPairSerializer(data=login).is_valid()
    settings.TOKENS_DPOP = "required"
    with pytest.raises(ProofRequired):
        TokenObtainPairSerializer(data=login).is_valid()


class Own(TokenObtainSerializer):
    """A serializer that a project wrote for SimpleJWT: it starts the session itself."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        super().validate(attrs)
        return {"token": str(RefreshToken.for_user(self.user))}


class OwnPair(TokenObtainPairSerializer):
    """One that does everything itself."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        user = get_user_model()._default_manager.get_by_natural_key(attrs[self.username_field])
        return {"token": str(RefreshToken.for_user(user))}


@pytest.mark.parametrize("serializer", [Own, OwnPair])
def test_session_started_by_a_projects_serializer_has_the_key_of_the_login(
    ann: Any, prover: Prover, rf: RequestFactory, settings: Settings, serializer: Any
) -> None:
    login = {ann.USERNAME_FIELD: "ann", "password": PASSWORD}
    settings.TOKENS_DPOP = "required"
    with pytest.raises(ProofRequired):
        serializer(data=login, context={"request": rf.post("/sign-in")}).is_valid()
    assert not Session.objects.exists()
    proving = rf.post("/sign-in", HTTP_DPOP=prover.prove("POST", f"{SITE}/sign-in"))
    assert serializer(data=login, context={"request": proving}).is_valid()
    assert Session.objects.get().jkt == prover.jkt


def test_guard_step_called_alone_refuses_a_bound_token(app: App) -> None:
    with pytest.raises(Refused) as raised:
        JWTAuthentication().get_validated_token(app.access)
    assert isinstance(raised.value.refusal, ProofRequired)
