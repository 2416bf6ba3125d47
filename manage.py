#!/usr/bin/env python
"""Django's command line, for this project."""

import os
import sys

from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured
from django.core.management import ManagementUtility


def main() -> None:
    """Run a command; a setting that can't be read ends it with a sentence, not a traceback."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    utility = ManagementUtility(sys.argv)
    try:
        utility.execute()
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    except AppRegistryNotReady:
        # Django begins some commands, such as makemigrations, although it could not read the settings.
        if utility.settings_exception is None:
            raise
        sys.exit(str(utility.settings_exception))


if __name__ == "__main__":
    main()
