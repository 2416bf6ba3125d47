"""The guard of async views outside DRF."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import APIException, NotAuthenticated

from ..authentication import JWTAuthentication
from ..domain.outages import OUTAGES
from ..http.errors import answer
from ..tokens import Token

View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]


async def authenticate(request: HttpRequest) -> tuple[Any, Token] | None:
    """Return the user and the access token of an active session; None if the request's header holds no token.

    A token that is bound to a key needs a proof of it, as in DRF's views.
    Raises Refused, KeysUnavailable or ProofsUnavailable, all of them DRF's APIException.
    """
    return await sync_to_async(JWTAuthentication().authenticate)(request)  # type: ignore[arg-type]


def login_required(view: View) -> View:
    """Require an access token of an active session; answer other requests 401, as DRF's views do.

    `request.user` and `await request.auser()` are the token's user, `request.auth` is the token. The view needs no CSRF
    token, since browsers add no header of ours to another site's requests.
    """
    if not iscoroutinefunction(view):
        raise TypeError(f"login_required guards async views, but {view!r} is not async. Use DRF's api_view instead.")

    @wraps(view)
    async def guarded(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            let_in = await authenticate(request)
            if let_in is None:
                raise NotAuthenticated
        except (APIException, *OUTAGES) as error:
            return answer(error)
        user, request.auth = let_in

        async def auser() -> Any:
            return user

        request.user, request.auser = user, auser
        return await view(request, *args, **kwargs)

    return csrf_exempt(guarded)
