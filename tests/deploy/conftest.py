from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from tempfile import TemporaryDirectory

import pytest

from tests.deploy.image import Image, find_python
from tests.deploy.proxies import Certificate
from tests.plugin import postgresql
from tests.server import free_port


@pytest.fixture(scope="session")
def certificate() -> Iterator[Certificate]:
    with TemporaryDirectory(prefix="latchkey-certificate-") as folder:
        yield Certificate(Path(folder))


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    python = find_python()
    if python is None:
        pytest.skip("The image was not tried: it needs a Python 3.11 or newer with pip that every user may run.")
    with TemporaryDirectory(prefix="latchkey-image-") as folder:
        Path(folder).chmod(0o755)
        image = Image(python, Path(folder))
        image.build()
        yield image


@dataclass
class Deployed:
    """The image, with production settings and a migrated PostgreSQL."""

    image: Image
    settings: dict[str, str]
    mails: Path


@pytest.fixture
def deployed(image: Image) -> Iterator[Deployed]:
    with (
        TemporaryDirectory(prefix="latchkey-postgresql-") as folder,
        TemporaryDirectory(prefix="latchkey-mails-") as mails,
        postgresql(Path(folder)) as database_url,
    ):
        Path(mails).chmod(0o777)
        settings = {
            "SECRET_KEY": token_urlsafe(64),
            "DATABASE_URL": database_url,
            "EMAIL_URL": f"filemail:///{mails}",
            "DEFAULT_FROM_EMAIL": "no-reply@example.com",
            "PORT": str(free_port()),
            "TRUSTED_PROXIES": "1",
            "SECURE_SSL_REDIRECT": "on",
            "ENV_FILE": "/dev/null",
        }
        image.run(["python", "manage.py", "migrate", "--noinput"], settings)
        yield Deployed(image, settings, Path(mails))
