"""What `benchmarks.scale` has to know of a database: run in a process of its own, with the project's settings."""

import json
import sys
from typing import Any

import django
from django.apps import apps
from django.contrib.auth import get_user_model
from django.utils.module_loading import import_string


def auth_hash() -> str:
    """Return the fingerprint of the password, which all users share."""
    user: Any = get_user_model()._default_manager.first()
    return str(user.get_session_auth_hash())


def tokens(number: int) -> list[tuple[str, str]]:
    """Return a refresh token and an access token of each of so many live sessions, chosen by chance."""
    sessions, issued = apps.get_model("latchkey", "session").objects, import_string("tokens.tokens.RefreshToken")
    share = min(100.0, 300.0 * number / max(sessions.count(), 1))
    found = sessions.raw(f"SELECT * FROM latchkey_session TABLESAMPLE BERNOULLI ({share})")
    live = sessions.live().select_related("user").filter(pk__in=[session.pk for session in found])
    pairs = [issued.of(session) for session in live.order_by("secret")[:number]]
    return [(str(refresh), str(refresh.access_token)) for refresh in pairs]


if __name__ == "__main__":
    django.setup()
    match sys.argv[1:]:
        case ["auth_hash"]:
            print(auth_hash())
        case ["tokens", count]:
            print(json.dumps(tokens(int(count))))
