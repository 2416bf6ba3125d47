"""Writes that have to last even if the request's transaction is rolled back.

With ATOMIC_REQUESTS Django wraps each view of a project in a transaction, and DRF undoes that when it answers with an
error. This app's own views are not wrapped; a guard in front of others, and serializers used in them, are. What they
write against an attacker is done again when the request has ended, unless it was committed.
"""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.core.signals import request_finished
from django.db import connections, transaction
from django.dispatch import receiver

from .outages import OUTAGES, describe

logger = logging.getLogger(__name__)

Act = Callable[[], object]

_pending: ContextVar[list[Act] | None] = ContextVar("latchkey_pending", default=None)


def outlast(act: Act, using: str) -> None:
    """Do it again after this request, if the transaction in which it was just done is rolled back."""
    connection = connections[using]
    if not (connection.in_atomic_block and connection.settings_dict["ATOMIC_REQUESTS"]):
        return
    pending = _pending.get()
    if pending is None:
        pending = []
        _pending.set(pending)
    pending.append(act)
    transaction.on_commit(lambda: pending.remove(act), using=using)


@receiver(request_finished)
def do_what_was_undone(**kwargs: Any) -> None:
    pending = _pending.get()
    _pending.set(None)
    for act in pending or ():
        try:
            act()
        except OUTAGES as error:
            logger.warning("The database can't do what a request has left undone: %s", describe(error))
