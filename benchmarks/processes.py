import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent


def run(database_url: str, environment: Mapping[str, str], module: str, *arguments: str) -> str:
    """Run a Python module in a process of its own, against that database; return what it prints."""
    given = {"ENV_FILE": os.devnull, "SECRET_KEY": settings.SECRET_KEY, "DATABASE_URL": database_url, **environment}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | given, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout
