import pytest

from tests.hosts.conftest import Host

MODELS = ("ByUUID", "ByCode", "ByNumber", "InTeams", "Hidden", "Person", "Member", "Regular")


@pytest.mark.parametrize("model", MODELS)
def test_every_user_model_works(host: Host, model: str) -> None:
    host.environment["AUTH_USER_MODEL"] = f"people.{model}"
    # The admin is for Django's own kind of user.
    if model != "ByUUID":
        settings = host.folder / "project/settings.py"
        settings.write_text(settings.read_text().replace('    "django.contrib.admin",\n', ""))
    host.manage("makemigrations", "people")
    host.manage("check", "--fail-level", "WARNING")
    host.test()
