from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from tokens.domain.signing_in import spellings


class AccountBackend(ModelBackend):
    """Django's backend; also refuses users with an unverified address, as if the password were wrong."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        """Return the user. A password matches in any Unicode form.

        Each form takes the same work, whether or not there is such a user.
        """
        for spelling in (None,) if password is None else spellings(password):
            if user := super().authenticate(request, username, spelling, **kwargs):
                return user
        return None

    async def aauthenticate(self, request: HttpRequest | None, *args: Any, **kwargs: Any) -> Any:
        return await sync_to_async(self.authenticate)(request, *args, **kwargs)

    def user_can_authenticate(self, user: Any) -> bool:
        return super().user_can_authenticate(user) and not user.awaiting_verification
