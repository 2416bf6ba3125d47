"""The clients in the tests: a browser, which has cookies, and an app, which stores its tokens itself."""

import json
from base64 import urlsafe_b64decode
from typing import Any

from rest_framework.test import APIClient

PASSWORD = "correct horse battery staple"

CHALLENGES = 'Bearer realm="api", DPoP realm="api", algs="ES256 EdDSA Ed25519"'
"""The challenges for a request without credentials."""


def claims_of(token: str) -> dict[str, Any]:
    """Return a JWT's claims, unverified."""
    return _segment(token, 1)


def header_of(token: str) -> dict[str, Any]:
    return _segment(token, 0)


def _segment(token: str, index: int) -> dict[str, Any]:
    segment = token.split(".")[index]
    decoded: dict[str, Any] = json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return decoded


class Browser:
    """Cookie transport: holds the refresh token in its cookie and the access token in memory."""

    def __init__(
        self, user_agent: str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    ) -> None:
        self.http = APIClient(headers={"user-agent": user_agent})
        self.access = ""

    @property
    def cookie(self) -> str:
        morsel = self.http.cookies.get("refreshToken")
        return morsel.value if morsel else ""

    @cookie.setter
    def cookie(self, value: str) -> None:
        self.http.cookies["refreshToken"] = value

    def login(self, username: str = "ann", password: str = PASSWORD, remember: object = None, **extra: Any) -> Any:
        """Sign in. With None, the client doesn't say whether to be remembered."""
        choice = {} if remember is None else {"remember": remember}
        return self._keep(self.post("/auth/login", {"username": username, "password": password, **choice}, **extra))

    def answer(self, challenge: str, code: str, **extra: Any) -> Any:
        """Go on with a login that wants a second factor."""
        return self._keep(self.post("/auth/login/second-factor", {"challenge": challenge, "code": code}, **extra))

    def reauthenticate(self, password: str = PASSWORD, **body: Any) -> Any:
        return self._keep(self.post("/auth/reauthenticate", {"currentPassword": password, **body}, self.access))

    def change_password(self, current: str = PASSWORD, new: str = "quite another horse", **extra: Any) -> Any:
        body = {"currentPassword": current, "newPassword": new, **extra}
        return self._keep(self.post("/auth/password/change", body, self.access))

    def refresh(self, cookie: str | None = None, **extra: Any) -> Any:
        if cookie is not None:
            self.cookie = cookie
        return self._keep(self.http.post("/auth/refresh-token", **extra))

    def logout(self) -> Any:
        return self.post("/auth/logout", access=self.access)

    def get(self, path: str, access: str | None = None, **extra: Any) -> Any:
        return self.http.get(path, **_bearer(self.access if access is None else access), **extra)

    def post(self, path: str, body: Any = None, access: str = "", **extra: Any) -> Any:
        return self.http.post(path, body, format="json", **_bearer(access), **extra)

    def _keep(self, response: Any) -> Any:
        if response.status_code < 300:
            self.access = response.data["accessToken"]
        return response


class App:
    """Body transport, as SimpleJWT's clients speak it."""

    def __init__(self) -> None:
        self.http = APIClient()
        self.access = self.refresh_token = ""

    def login(self, username: str = "ann", password: str = PASSWORD) -> Any:
        return self._keep(self.http.post("/api/token/", {"username": username, "password": password}, format="json"))

    def answer(self, challenge: str, code: str) -> Any:
        """Go on with a login that wants a second factor."""
        body = {"challenge": challenge, "code": code}
        return self._keep(self.http.post("/api/token/second-factor/", body, format="json"))

    def refresh(self, token: str | None = None) -> Any:
        token = self.refresh_token if token is None else token
        return self._keep(self.http.post("/api/token/refresh/", {"refresh": token}, format="json"))

    def verify(self, token: str) -> Any:
        return self.http.post("/api/token/verify/", {"token": token}, format="json")

    def blacklist(self, token: str) -> Any:
        return self.http.post("/api/token/blacklist/", {"refresh": token}, format="json")

    def _keep(self, response: Any) -> Any:
        if response.status_code < 300:
            self.access, self.refresh_token = response.data["access"], response.data["refresh"]
        return response


def _bearer(access: str) -> dict[str, Any]:
    return {"HTTP_AUTHORIZATION": f"Bearer {access}"} if access else {}
