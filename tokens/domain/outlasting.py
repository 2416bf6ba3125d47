"""Writes that have to last even if the request's transaction is rolled back.

With ATOMIC_REQUESTS, Django wraps each view of a project in a transaction, and DRF rolls it back when it answers with
an error. This app's own views are not wrapped, but its guard and its serializers may run inside views that are. What
they write against an attacker is written again after the request, unless it was committed.
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
    """Call the function again after this request, if the transaction in which it has just run is rolled back."""
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
            logger.warning("A write that a rolled-back request lost could not be repeated: %s", describe(error))
