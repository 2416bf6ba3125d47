"""The entry point of ASGI servers. A wrong or unsafe setting stops the start with a message."""

import os
import sys
from io import StringIO

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db.backends.signals import connection_created
from django.urls import set_script_prefix

from config.serving import outermost
from config.serving.waiting import limit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
connection_created.connect(limit)
# Sent when a connection begins. Otherwise Django would set it by a statement, before the timeout is set.
os.environ.setdefault("PGTZ", "UTC")

try:
    handler = get_asgi_application()
    handler.request_class = outermost.AsyncRequest
    application = outermost.ASGI(handler)
    set_script_prefix(f"{settings.FORCE_SCRIPT_NAME or ''}/")  # as a command does, for checks that build URLs
    call_command("check", stdout=StringIO())
except (ImproperlyConfigured, SystemCheckError) as error:
    sys.exit(str(error))
