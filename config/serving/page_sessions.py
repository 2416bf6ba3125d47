"""Stores who is signed in to the admin and the browsable API (SESSION_ENGINE), and reads the cookie."""

from hashlib import blake2b
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions import middleware
from django.contrib.sessions.backends import db
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

from tokens.exceptions import TokenNotValid
from tokens.http import cookies


class SessionMiddleware(middleware.SessionMiddleware):
    """Django's middleware, except that two cookies count as none, and no cache may keep an answer that sets one.

    Another host of the site can plant a second cookie, and the browser decides which comes first.
    """

    def process_request(self, request: HttpRequest) -> None:
        try:
            cookies.find(request, settings.SESSION_COOKIE_NAME)
        except TokenNotValid:
            request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:  # type: ignore[override]
        response = super().process_response(request, response)  # type: ignore[arg-type]
        if settings.SESSION_COOKIE_NAME in response.cookies:
            response.setdefault("Cache-Control", "no-store")
        return response


class SessionStore(db.SessionStore):
    """Django's store, except that the table holds digests of keys, so a copy of the database signs nobody in.

    A digest without salt is enough for a key of 165 random bits.
    """

    def _get_session_from_db(self) -> Any:
        rows = self.model.objects.filter(session_key=_digest(self.session_key), expire_date__gt=timezone.now())
        row = rows.first()
        if row is None:
            self._session_key = None
        return row

    def exists(self, session_key: str) -> bool:
        return super().exists(_digest(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        row = super().create_model_instance(data)
        row.session_key = _digest(row.session_key)
        return row

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        super().delete(_digest(key) if key else None)

    # Django's own would look for the key itself, and store it.

    async def _aget_session_from_db(self) -> Any:
        return await sync_to_async(self._get_session_from_db)()

    async def aexists(self, session_key: str) -> bool:
        return await sync_to_async(self.exists)(session_key)

    async def acreate_model_instance(self, data: dict[str, Any]) -> Any:
        return await sync_to_async(self.create_model_instance)(data)

    async def adelete(self, session_key: str | None = None) -> None:
        await sync_to_async(self.delete)(session_key)


def _digest(session_key: str | None) -> str:
    # 40 characters, the length of the column.
    return blake2b((session_key or "").encode(), digest_size=20).hexdigest()
