"""Tokens that must not pass, each presented at every door: the same kind of 401, and nothing changes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import time
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import override_settings
from django.urls import path
from pytest_django import Settings
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from tests.clients import claims_of, header_of
from tests.forgery import access_token, anybody, encode, forge, hs, our_access_key, our_refresh_key, refresh_token
from tests.urls_tokens import urlpatterns as project
from tokens.authentication import JWTAuthentication, StatelessJWTAuthentication
from tokens.http.errors import exception_handler
from tokens.jose import keys
from tokens.models import SecurityEvent, Session
from tokens.tokens import RefreshToken

SERVICE = {"billing": "a secret of 32 characters or more"}
SERVICE_AUTHORIZATION = "Basic YmlsbGluZzphIHNlY3JldCBvZiAzMiBjaGFyYWN0ZXJzIG9yIG1vcmU="


class Guarded(APIView):
    authentication_classes: Any = (JWTAuthentication,)
    permission_classes: Any = (IsAuthenticated,)

    def get_exception_handler(self) -> Any:
        return exception_handler

    def get(self, request: Request) -> Response:
        return Response({})


class Stateless(Guarded):
    authentication_classes = (StatelessJWTAuthentication,)


urlpatterns = [*project, path("guarded", Guarded.as_view()), path("stateless", Stateless.as_view())]

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@dataclass(frozen=True)
class Genuine:
    """What the attacker starts with: both tokens of a session, and the public key."""

    access: str
    refresh: str

    def header(self, **changes: Any) -> dict[str, Any]:
        return {**header_of(self.access), **changes}

    def claims(self, **changes: Any) -> dict[str, Any]:
        return {**claims_of(self.access), **changes}

    def refresh_claims(self, **changes: Any) -> dict[str, Any]:
        return {**claims_of(self.refresh), **changes}


Attacks = Iterator[tuple[str, str]]
"""Names and tokens."""

Present = Callable[[Genuine, str], Any]


def parts(token: str) -> list[str]:
    return token.split(".")


def without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


def json_of(mapping: dict[str, Any]) -> bytes:
    return json.dumps(mapping, separators=(",", ":")).encode()


def no_signature(genuine: Genuine) -> Attacks:
    _, claims, signature = parts(genuine.access)
    for alg in ("none", "None", "NONE", "nOnE", "", " none", None):
        header = encode(genuine.header(alg=alg))
        yield f"alg {alg!r}", f"{header}.{claims}."
        yield f"alg {alg!r} with some signature", f"{header}.{claims}.{encode(b'0' * 64)}"
        yield f"alg {alg!r} with the genuine signature", f"{header}.{claims}.{signature}"
        yield f"refresh, alg {alg!r}", forge({"alg": alg, "typ": "rt+jwt"}, genuine.refresh_claims(), anybody)
    for wrong in (1, True, ["EdDSA"], {"EdDSA": 1}):
        yield f"alg {wrong!r}", access_token(genuine.claims(), alg=wrong)
    yield "alg left out", forge(without(genuine.header(), "alg"), genuine.claims(), our_access_key)
    message = genuine.access.rpartition(".")[0]
    yield "signature left out", message
    yield "empty signature", f"{message}."
    yield "signature of zeros", f"{message}.{'A' * 86}"
    yield "signature of the refresh token", f"{message}.{parts(genuine.refresh)[2]}"


def public_key_as_a_secret(genuine: Genuine) -> Attacks:
    public: Any = keys.access_keys()[0].public
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = keys.access_keys()[0].jwk
    secrets = {
        "PEM": pem,
        "PEM without its last newline": pem.rstrip(),
        "PEM with CRLF": pem.replace(b"\n", b"\r\n"),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "raw": public.public_bytes(Encoding.Raw, PublicFormat.Raw),
        "OpenSSH": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "JWK": json_of(jwk),
        "JWK with spaces": json.dumps(jwk).encode(),
        "JWK after a byte order mark": b"\xef\xbb\xbf" + json_of(jwk),
        "JWK set": json.dumps(keys.key_set()).encode(),
        "its x": jwk["x"].encode(),
        "its name": jwk["kid"].encode(),
        "nothing": b"",
    }
    for alg, digest in (("HS384", "sha384"), ("HS512", "sha512")):
        yield alg, forge(genuine.header(alg=alg), genuine.claims(), hs(pem, digest))
    for form, secret in secrets.items():
        yield f"access, {form}", forge(genuine.header(alg="HS256"), genuine.claims(), hs(secret))
        yield f"called EdDSA, {form}", forge(genuine.header(), genuine.claims(), hs(secret))
        yield f"refresh, {form}", forge(header_of(genuine.refresh), genuine.refresh_claims(), hs(secret))


def other_keys(genuine: Genuine) -> Attacks:
    yield "under our name", forge(genuine.header(), genuine.claims(), anybody)
    yield "under a name of its own", forge(genuine.header(kid="another"), genuine.claims(), anybody)
    for alg in ("ES256", "RS256", "PS256", "Ed25519", "eddsa"):
        yield f"ours, called {alg}", access_token(genuine.claims(), alg=alg)
    with override_settings(SECRET_KEY="another instance " * 4, SECRET_KEY_FALLBACKS=[]):
        yield "another instance", access_token(genuine.claims())
        yield "another instance under our name", access_token(genuine.claims(), kid=genuine.header()["kid"])
        yield "refresh, another instance", refresh_token(genuine.refresh_claims())


def injected_key_names(genuine: Genuine) -> Attacks:
    names: tuple[Any, ...] = (
        "",
        ".",
        "0",
        "../../../../../../dev/null",
        "/etc/passwd",
        "file:///dev/null",
        "http://127.0.0.1:1/jwks.json",
        "' OR '1'='1",
        "x' UNION SELECT 'secret' -- ",
        "| whoami",
        "${jndi:ldap://127.0.0.1/a}",
        "k\x00",
        "\ud800",
        "ключ",
        "k" * 2000,
        None,
        0,
        1.5,
        True,
        [],
        ["kid"],
        {},
        {"kid": 1},
    )
    for name in names:
        yield f"signed with nothing, {name!a}", forge(genuine.header(alg="HS256", kid=name), genuine.claims(), hs(b""))
        yield f"signed with our key, {name!a}", access_token(genuine.claims(), kid=name)
    yield "left out", forge(without(genuine.header(), "kid"), genuine.claims(), our_access_key)
    yield "refresh", refresh_token(genuine.refresh_claims(), kid="1")


def headers_that_say_how_to_verify(genuine: Genuine) -> Attacks:
    parameters = {
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        "jku": "http://127.0.0.1:1/jwks.json",
        "x5u": "http://127.0.0.1:1/chain.pem",
        "x5c": ["MIIB"],
        "x5t": "AAAA",
        "x5t#S256": "AAAA",
        "crit": ["exp"],
        "b64": True,
        "zip": "DEF",
        "cty": "JWT",
        "enc": "A256GCM",
        "unknown": 1,
    }
    for name, value in parameters.items():
        yield f"{name}, signed by us", access_token(genuine.claims(), **{name: value})
        yield f"{name}, signed by another", forge(genuine.header(**{name: value}), genuine.claims(), anybody)
        yield f"refresh, {name}", refresh_token(genuine.refresh_claims(), **{name: value})
    for crit in ([], ["b64"], ["alg"], "b64", None, [1]):
        yield f"crit {crit!r}", access_token(genuine.claims(), crit=crit)
    yield "b64 false", access_token(genuine.claims(), b64=False, crit=["b64"])
    detached = encode(genuine.header(b64=False, crit=["b64"]))
    yield "b64 false and no claims", f"{detached}..{parts(genuine.access)[2]}"


def one_kind_for_the_other(genuine: Genuine) -> Attacks:
    for typ in ("JWT", "at+JWT", "application/at+jwt", "logout+jwt", "dpop+jwt", "", None, 1, ["at+jwt"]):
        yield f"typ {typ!r}", access_token(genuine.claims(), typ=typ)
        yield f"refresh, typ {typ!r}", refresh_token(genuine.refresh_claims(), typ=typ)
    yield "typ left out", forge(without(genuine.header(), "typ"), genuine.claims(), our_access_key)
    yield "refresh, typ left out", forge({"alg": "HS256"}, genuine.refresh_claims(), our_refresh_key)
    yield "access token with the other's typ", access_token(genuine.claims(), typ="rt+jwt")
    yield "refresh token with the other's typ", refresh_token(genuine.refresh_claims(), typ="at+jwt")
    yield "access token that calls itself refresh", access_token(genuine.claims(token_type="refresh"))
    yield "refresh token that calls itself access", refresh_token(genuine.refresh_claims(token_type="access"))
    yield "refresh claims under the access key", access_token(genuine.refresh_claims())
    yield "access claims under the refresh key", refresh_token(genuine.claims())
    header = {"alg": "HS256", "typ": "at+jwt"}
    yield "access token under the refresh key", forge(header, genuine.claims(), our_refresh_key)
    id_token = {name: genuine.claims()[name] for name in ("iss", "aud", "sub", "iat", "exp", "auth_time")}
    yield "ID token", access_token({**id_token, "nonce": "1"}, typ="JWT")
    yield "ID token with our typ", access_token({**id_token, "nonce": "1"})
    yield "logout token", access_token({**genuine.claims(), "events": {}}, typ="logout+jwt")


def tampered_claims(genuine: Genuine) -> Attacks:
    changes = {
        "sub": "0",
        "sid": "01890a5d-ac96-774b-bcce-b302099a8057",
        "jti": "0",
        "iat": 0,
        "exp": 99999999999,
        "iss": "https://attacker.example",
        "generation": 1,
        "token_type": "id",
        "aud": "https://other.example",
        "auth_time": 0,
        "amr": ["pwd", "otp"],
        "username": "root",
        "is_staff": True,
        "is_superuser": True,
        "groups": ["admins"],
        "another": 1,
    }
    for kind, token in (("access", genuine.access), ("refresh", genuine.refresh)):
        header, _, signature = parts(token)
        for name, value in changes.items():
            yield f"{kind}, {name}", f"{header}.{encode({**claims_of(token), name: value})}.{signature}"
        for name in claims_of(token):
            yield f"{kind}, without {name}", f"{header}.{encode(without(claims_of(token), name))}.{signature}"
        reordered = dict(sorted(claims_of(token).items()))
        yield f"{kind}, in another order", f"{header}.{encode(reordered)}.{signature}"


WRONG_TEXT: tuple[Any, ...] = (None, "", 0, 1.5, True, [], {}, "\ud800", "a\x00b", ["a", 1])
WRONG_TIME: tuple[Any, ...] = (None, "1", 1e9, -1, 253402300800, 2**63, 10**300, True)
WRONG_CLAIMS: dict[str, tuple[Any, ...]] = {
    "iss": (*WRONG_TEXT, "https://attacker.example"),
    "sub": WRONG_TEXT,
    "sid": (*WRONG_TEXT, "another", "01890a5d-ac96-774b-bcce-b302099a805", "{01890a5d-ac96-774b-bcce-b302099a8057}"),
    "jti": WRONG_TEXT,
    "token_type": (*WRONG_TEXT, "Access", "Refresh", "id"),
    "iat": WRONG_TIME,
    "exp": WRONG_TIME,
    "generation": (None, "0", 0.0, -1, 2**31, 2**63, 2**64, 10**300, False),
}
WRONG_ACCESS_CLAIMS = {
    **WRONG_CLAIMS,
    "aud": (*WRONG_TEXT, "https://other.example", ["https://other.example"]),
    "client_id": WRONG_TEXT,
    "auth_time": WRONG_TIME,
    "amr": (None, "pwd", {}, [1], [None], [["pwd"]]),
    "username": (None, 1, True, [], {}),
    "is_staff": (None, 0, 1, "true", []),
    "is_superuser": (None, 0, 1, "true", []),
    "groups": (None, "admins", {}, [1], [None], [["admins"]]),
}


def wrong_access_claims_that_we_signed(genuine: Genuine) -> Attacks:
    assert WRONG_ACCESS_CLAIMS.keys() == genuine.claims().keys()
    for name, values in WRONG_ACCESS_CLAIMS.items():
        yield f"without {name}", access_token(without(genuine.claims(), name))
        for value in values:
            yield f"{name} {value!a}", access_token(genuine.claims(**{name: value}))


def wrong_refresh_claims_that_we_signed(genuine: Genuine) -> Attacks:
    assert WRONG_CLAIMS.keys() == genuine.refresh_claims().keys()
    for name, values in WRONG_CLAIMS.items():
        yield f"without {name}", refresh_token(without(genuine.refresh_claims(), name))
        for value in values:
            yield f"{name} {value!a}", refresh_token(genuine.refresh_claims(**{name: value}))


def well_formed_claims_that_are_wrong(genuine: Genuine) -> Attacks:
    issuer, audience, session = (genuine.claims()[name] for name in ("iss", "aud", "sid"))
    yield "issuer with a slash more", access_token(genuine.claims(iss=f"{issuer}/"))
    yield "issuers", access_token(genuine.claims(iss=[issuer]))
    yield "audience that begins like ours", access_token(genuine.claims(aud=f"{audience}x"))
    yield "other audiences", access_token(genuine.claims(aud=[f"{audience}x", f"x{audience}"]))
    yield "session in another spelling", access_token(genuine.claims(sid=session.replace("-", "")))
    yield "session in capitals", access_token(genuine.claims(sid=f"urn:uuid:{session}"))
    yield "from the future", access_token(genuine.claims(iat=int(time()) + 70))
    yield "refresh, from the future", refresh_token(genuine.refresh_claims(iat=int(time()) + 70))
    yield "refresh, of a generation to come", refresh_token(genuine.refresh_claims(generation=1))
    yield "refresh, without the session's secret", refresh_token(genuine.refresh_claims(jti="A" * 43))


def names_that_come_twice(genuine: Genuine) -> Attacks:
    def twice(*pairs: tuple[str, Any]) -> bytes:
        members = (f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
        return f"{{{','.join(members)}}}".encode()

    for name, value in (("alg", "none"), ("alg", "HS256"), ("kid", "another"), ("typ", "JWT")):
        first = twice((name, value), *genuine.header().items())
        yield f"{name}, first {value}", forge(first, genuine.claims(), our_access_key)
        last = twice(*genuine.header().items(), (name, value))
        yield f"{name}, last {value}", forge(last, genuine.claims(), our_access_key)
    for name in ("sub", "exp", "iss", "token_type"):
        yield name, access_token(twice((name, "x"), *genuine.claims().items()))
        yield f"refresh, {name}", refresh_token(twice((name, "x"), *genuine.refresh_claims().items()))
    nested = json_of(genuine.claims())[:-1] + b',"x":{"y":1,"y":2}}'
    yield "within a claim", access_token(nested)


def other_spellings(genuine: Genuine) -> Attacks:
    for kind, token in (("access", genuine.access), ("refresh", genuine.refresh)):
        # The last character of a signature has bits that mean nothing.
        yield f"{kind}, stray bits", token[:-1] + chr(ord(token[-1]) + 1)
        for padding in ("=", "==", "===", "====", "%3D"):
            yield f"{kind}, {padding}", token + padding
        for stray in " \t\n\r\x00+/!é\u2028\ud800\ufeff\uff0e\u200b":
            for place in (5, token.rindex(".") + 1):
                yield f"{kind}, {stray!a} at {place}", token[:place] + stray + token[place:]
        _, claims, signature = parts(token)
        respelt = encode(json.dumps(header_of(token)).encode())
        yield f"{kind}, spaces in the header", f"{respelt}.{claims}.{signature}"
        yield f"{kind}, the other alphabet", token.replace("-", "+").replace("_", "/") + "+/"
        yield f"{kind}, quoted", f"'{token}'"
        yield f"{kind}, with its scheme", f"Bearer {token}"
        yield f"{kind}, in capitals", token.upper()
        yield f"{kind}, twice", f"{token},{token}"


def other_forms(genuine: Genuine) -> Attacks:
    protected, payload, signature = parts(genuine.access)
    yield "one segment", protected
    yield "two segments", f"{protected}.{payload}"
    yield "four segments", f"{genuine.access}.{signature}"
    yield "six segments", f"{genuine.access}.{genuine.access}"
    yield "dots", ".."
    yield "many dots", "." * 4000
    yield "null", "null"
    yield "token in a token", access_token({"token": genuine.access}, cty="JWT")
    yield "token for claims", access_token(genuine.access.encode())
    jwe = {"alg": "dir", "enc": "A256GCM", "cty": "JWT"}
    yield "JWE", ".".join([encode(jwe), "", "AAAA", payload, "AAAA"])
    costly = {"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2**31, "p2s": "AAAA"}
    yield "JWE of many rounds", ".".join([encode(costly), "AAAA", "AAAA", payload, "AAAA"])
    flat = {"payload": payload, "protected": protected, "signature": signature}
    yield "JSON serialization, flattened", json.dumps(flat)
    general = {"payload": payload, "signatures": [{"protected": protected, "signature": signature}]}
    yield "JSON serialization, general", json.dumps(general)
    for part in (b"", b"null", b"1", b"[]", b'"alg"', b"{", b"{}{}", b"\xff", b"\x00", b'{"exp": NaN}'):
        yield f"header {part!r}", forge(part, genuine.claims(), our_access_key)
        yield f"claims {part!r}", access_token(part)
        yield f"refresh, claims {part!r}", refresh_token(part)
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        header = json.dumps(genuine.header()).encode(encoding)
        yield f"header in {encoding}", forge(header, genuine.claims(), our_access_key)
        yield f"claims in {encoding}", access_token(json.dumps(genuine.claims()).encode(encoding))
    surrogate = json_of(genuine.claims())[:-1] + b',"x":"\xed\xa0\x80"}'
    yield "claims in no encoding", access_token(surrogate)


def too_much(genuine: Genuine) -> Attacks:
    yield "4097 bytes", f"{'A' * 1000}.{'A' * 3000}.{'A' * 95}"
    yield "too long", access_token(genuine.claims(x="x" * 4000))
    yield "refresh, too long", refresh_token(genuine.refresh_claims(x="x" * 4000))
    yield "a hundred thousand bytes", genuine.access + "A" * 100_000
    for opening in (b"[", b'{"a":'):
        deep = opening * (2000 // len(opening))
        yield f"header nested with {opening!r}", forge(deep, genuine.claims(), our_access_key)
        yield f"claims nested with {opening!r}", access_token(deep)
        yield f"refresh, claims nested with {opening!r}", refresh_token(deep)
    start = json_of(without(genuine.claims(), "exp"))[:-1]
    yield "nested and closed", access_token(start + b',"exp":' + b"[" * 1000 + b"]" * 1000 + b"}")
    yield "digits", access_token(start + b',"exp":' + b"9" * 2000 + b"}")


# The doors


def wire(text: str) -> str:
    """Return a header's value as a server passes on the received bytes."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def in_header(method: str, path: str) -> Present:
    def present(genuine: Genuine, token: str) -> Any:
        return getattr(APIClient(), method)(path, HTTP_AUTHORIZATION=f"Bearer {wire(token)}")

    return present


def in_cookie(path: str) -> Present:
    def present(genuine: Genuine, token: str) -> Any:
        headers: Any = {"HTTP_COOKIE": f"refreshToken={wire(token)}"}
        if path == "/auth/logout":
            headers["HTTP_AUTHORIZATION"] = f"Bearer {genuine.access}"
        return APIClient().post(path, **headers)

    return present


def in_body(path: str, field: str) -> Present:
    def present(genuine: Genuine, token: str) -> Any:
        return APIClient().post(path, json.dumps({field: token}), content_type="application/json")

    return present


def in_form(path: str, **headers: Any) -> Present:
    def present(genuine: Genuine, token: str) -> Any:
        body = urlencode({"token": token.encode("utf-8", "surrogatepass")})
        return APIClient().post(path, body, content_type="application/x-www-form-urlencoded", **headers)

    return present


FOR_ACCESS_TOKENS = {
    "guard": in_header("get", "/guarded"),
    "stateless guard": in_header("get", "/stateless"),
    "logout-all": in_header("post", "/auth/logout-all"),
    "verify": in_body("/api/token/verify/", "token"),
}
FOR_REFRESH_TOKENS = {
    "cookie": in_cookie("/auth/refresh-token"),
    "logout": in_cookie("/auth/logout"),
    "refresh": in_body("/api/token/refresh/", "refresh"),
    "verify": in_body("/api/token/verify/", "token"),
    "blacklist": in_body("/api/token/blacklist/", "refresh"),
}
FOR_STAFF = {"introspect, as who asks": in_header("post", "/auth/introspect")}
revoke = in_form("/auth/revoke")
introspect = in_form("/auth/introspect", HTTP_AUTHORIZATION=SERVICE_AUTHORIZATION)


@pytest.fixture
def genuine(ann: Any, settings: Settings) -> Genuine:
    settings.TOKENS_INTROSPECTION_CREDENTIALS = SERVICE
    refresh = RefreshToken.for_user(ann)
    return Genuine(str(refresh.access_token), str(refresh))


def state() -> Any:
    return list(Session.objects.values()), list(SecurityEvent.objects.values())


@pytest.mark.parametrize(
    "attacks",
    [
        no_signature,
        public_key_as_a_secret,
        other_keys,
        injected_key_names,
        headers_that_say_how_to_verify,
        one_kind_for_the_other,
        tampered_claims,
        wrong_access_claims_that_we_signed,
        wrong_refresh_claims_that_we_signed,
        well_formed_claims_that_are_wrong,
        names_that_come_twice,
        other_spellings,
        other_forms,
        too_much,
    ],
)
def test_every_attack_is_refused_and_changes_nothing(genuine: Genuine, attacks: Callable[[Genuine], Attacks]) -> None:
    before = state()
    for name, token in list(attacks(genuine)):
        for place, present in (FOR_ACCESS_TOKENS | FOR_REFRESH_TOKENS | FOR_STAFF).items():
            response = present(genuine, token)
            assert response.status_code == 401, (name, place)
            assert response.data.keys() == {"detail", "code"}, (name, place)
            assert response.data["code"] == "token_not_valid", (name, place)
            assert response["WWW-Authenticate"] == 'Bearer realm="api", error="invalid_token"', (name, place)
        revoked, introspected = revoke(genuine, token), introspect(genuine, token)
        assert (revoked.status_code, revoked.content) == (200, b""), name
        assert (introspected.status_code, introspected.data) == (200, {"active": False}), name
        assert state() == before, name


def test_signing_key_alone_does_not_open_a_session(genuine: Genuine) -> None:
    token = access_token(genuine.claims(sub="0"))

    for place, present in (FOR_ACCESS_TOKENS | FOR_STAFF).items():
        if place != "stateless guard":  # which can't know
            assert present(genuine, token).status_code == 401, place
    assert introspect(genuine, token).data == {"active": False}


@pytest.mark.parametrize(("place", "present"), FOR_ACCESS_TOKENS.items(), ids=FOR_ACCESS_TOKENS.keys())
def test_access_token_built_by_the_attack_code_is_accepted(genuine: Genuine, place: str, present: Present) -> None:
    token = access_token(genuine.claims())

    assert introspect(genuine, token).data["active"]
    assert present(genuine, token).status_code in (200, 204)


@pytest.mark.parametrize(("place", "present"), FOR_REFRESH_TOKENS.items(), ids=FOR_REFRESH_TOKENS.keys())
def test_refresh_token_built_by_the_attack_code_is_accepted(genuine: Genuine, place: str, present: Present) -> None:
    token = refresh_token(genuine.refresh_claims())

    assert introspect(genuine, token).data["active"]
    assert present(genuine, token).status_code in (200, 204)


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_token_built_by_the_attack_code_is_revoked(genuine: Genuine, kind: str) -> None:
    token = {"access": genuine.access, "refresh": genuine.refresh}[kind]

    assert revoke(genuine, token).status_code == 200

    assert Session.objects.get().revoked_at


@pytest.mark.parametrize("value", [None, True, 1, 1.5, [], ["token"], {}, {"token": "x"}, "", " "])
@pytest.mark.parametrize(
    ("path", "field"),
    [("/api/token/refresh/", "refresh"), ("/api/token/verify/", "token"), ("/api/token/blacklist/", "refresh")],
)
def test_value_of_the_wrong_type_in_a_body_is_a_client_error(db: None, path: str, field: str, value: Any) -> None:
    response = APIClient().post(path, {field: value}, format="json")

    # DRF accepts a number as text.
    assert response.status_code == (401 if type(value) in (int, float) else 400)
