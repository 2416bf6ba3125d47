"""gunicorn's settings for `make run`: config.gunicorn's, and a message with the addresses."""

import errno
import socket
import sys
from typing import Any

from config.gunicorn import *  # noqa: F403
from config.gunicorn import HOST
from config.settings import PORT, PUBLIC_URL

WELCOME = f"""
Latchkey is running. Press Ctrl-C to stop it.

  account page       {PUBLIC_URL}/
  API                {PUBLIC_URL}/api/
  API documentation  {PUBLIC_URL}/api/docs/
  admin              {PUBLIC_URL}/admin/  (create an administrator with: make admin)

Try it in another terminal. Register once:

  curl -s -H 'Content-Type: application/json' {PUBLIC_URL}/auth/register \\
    -d '{{"username": "ada", "password": "the analytical engine"}}'

Then sign in, read your account, and refresh:

  TOKEN=$(curl -s -c cookies.txt -H 'Content-Type: application/json' {PUBLIC_URL}/auth/login \\
    -d '{{"username": "ada", "password": "the analytical engine"}}' | sed 's/.*"accessToken":"\\([^"]*\\)".*/\\1/')
  curl -H "Authorization: Bearer $TOKEN" {PUBLIC_URL}/api/me/
  curl -b cookies.txt -c cookies.txt -X POST {PUBLIC_URL}/auth/refresh-token
"""


def on_starting(server: Any) -> None:
    """Exit with one line if the port is in use. gunicorn would try again for seconds."""
    with socket.socket(socket.AF_INET6 if ":" in HOST else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST.strip("[]"), PORT))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            sys.exit(f"Port {PORT} is in use. Stop the other program or choose another port: make run PORT={PORT + 1}")


def when_ready(server: Any) -> None:
    print(WELCOME, flush=True)  # noqa: T201
